// The measured commands as a person would write them for Node: lines by split, JSON, an EventEmitter; corked, so that
// the replies to all that came at once go out at once. Ends when its standard input does.
'use strict';
const net = require('node:net');
const { EventEmitter } = require('node:events');

const commands = new EventEmitter();
commands.on('dae', (reply) => reply({ name: 'Peer', pid: process.pid, port: server.address().port }));
commands.on('echo', (reply, text) => reply(text));
commands.on('add', (reply, a, b) => reply(a + b));

const server = net.createServer({ noDelay: true }, (socket) => {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    socket.cork();
    for (const line of lines) {
      const [name, json = '[]'] = line.split(/ (.*)/, 2);
      const reply = (value) => socket.write(`${name} ${JSON.stringify([value])}\n`);
      commands.emit(name, reply, ...JSON.parse(json));
    }
    socket.uncork();
  });
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 1024 }, () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
