// A daemon as the seed's were, in Node: a command is an event of a connection, and its reply is the event of the same
// name. No tags, no `error`: a command that it doesn't have is an event that nobody listens to.
//
//   node daemon.js NAME      prints its port, then the arguments of every `note` it is sent
const net = require('net');
const {EventEmitter} = require('events');

const name = process.argv[2];

class Guest extends EventEmitter {
  constructor(socket) {
    super();
    this.socket = socket;
    socket.setEncoding('utf8');
    let rest = '';
    socket.on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      lines.forEach((line) => this.read(line));
    });
  }

  read(line) {
    const space = line.indexOf(' ');
    const command = space < 0 ? line : line.slice(0, space);
    const args = space < 0 ? [] : JSON.parse(line.slice(space + 1));
    // An 'error' event without a listener would throw.
    if (command !== 'error') this.emit(command, ...args);
  }

  send(command, ...args) {
    this.socket.write(`${command} ${JSON.stringify(args)}\n`);
  }
}

const commands = {
  dae: () => ({name, pid: process.pid, port: server.address().port}),
  options: () => Object.fromEntries(Object.entries(commands).map(([key, code]) => [key, code.length])),
  add: (a, b) => a + b,
  greet: (who) => `Hello, ${who}, from Node`,
};

const server = net.createServer((socket) => {
  const guest = new Guest(socket);
  for (const [command, code] of Object.entries(commands)) {
    guest.on(command, (...args) => guest.send(command, code(...args)));
  }
  // An event: it has no reply.
  guest.on('note', (...args) => console.log(JSON.stringify(args)));
  // Calls another daemon, and replies with what that one did.
  guest.on('relay', (port, command, ...args) => {
    const other = new Guest(net.connect(port, '127.0.0.1'));
    other.once(command, (result) => {
      guest.send('relay', result);
      other.socket.end();
    });
    other.send(command, ...args);
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
