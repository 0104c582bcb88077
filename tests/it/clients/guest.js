// A guest as the seed's was: a net.Socket behind an EventEmitter. Each line is an event of the line's name, with the
// line's arguments; calling a command is writing a line.
const net = require('net');
const {EventEmitter} = require('events');

class Guest extends EventEmitter {
  constructor(port) {
    super();
    this.socket = net.connect(port, '127.0.0.1', () => this.emit('connect'));
    this.socket.setEncoding('utf8');
    this.rest = '';
    this.socket.on('data', (text) => this.read(text));
    this.socket.on('close', () => this.emit('close'));
  }

  read(text) {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop();
    for (const line of lines) {
      const space = line.indexOf(' ');
      const name = space < 0 ? line : line.slice(0, space);
      const args = space < 0 ? [] : JSON.parse(line.slice(space + 1));
      // An 'error' event without a listener would throw.
      this.emit(name === 'error' ? 'fault' : name, ...args);
    }
  }

  send(name, ...args) {
    this.socket.write(`${name} ${JSON.stringify(args)}\n`);
  }
}

const guest = new Guest(Number(process.argv[2]));
guest.on('connect', () => guest.socket.write('dae\n'));
guest.on('dae', (credential) => {
  console.log(credential.name);
  guest.send('add', 1, 2);
});
guest.on('add', (sum) => {
  console.log(sum);
  guest.send('echo', 'héllo 👾');
});
guest.on('echo', (text) => {
  console.log(text);
  guest.send('fail', 'boom');
});
guest.once('fault', (fault) => {
  console.log(fault.message);
  guest.once('fault', (coded) => {
    console.log(coded.message);
    guest.send('push', 3);
  });
  guest.send('refuse', 'not-found', 'no such key', {key: 'a'});
});
guest.on('tick', (n) => console.log(`tick ${n}`));
guest.on('push', () => guest.socket.end());
guest.on('close', () => console.log('closed'));
