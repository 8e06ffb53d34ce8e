// node_echo.js: the echo server of Node's documentation of net.createServer, as a peer.
//
// Each socket is piped into itself, as there; pipe() waits where the socket takes no more.
//
// Neighbours: README.md compares the peers.
// Ownership: a socket belongs to Node until both of its sides have ended.
'use strict';

const fs = require('fs');
const net = require('net');

const usage = 'usage: node node_echo.js [echo] --port N | --unix PATH';

function fail(status, message) {
  console.error(`node: ${message}`);
  process.exit(status);
}

// What listen() takes, from the command line.
function parse(words) {
  if (words.includes('--help')) {
    console.log(usage);
    process.exit(0);
  }
  if (words[0] === 'echo') words = words.slice(1);
  const [option, value] = words;
  if (words.length !== 2 || (option !== '--port' && option !== '--unix')) {
    fail(2, `"${words.join(' ')}" was not understood; ${usage}`);
  }
  if (option === '--unix') return {path: value};
  if (!/^\d+$/.test(value) || Number(value) > 65535) {
    fail(2, `--port "${value}" is not a number from 0 to 65535`);
  }
  return {host: '127.0.0.1', port: Number(value)};
}

const where = parse(process.argv.slice(2));
if (where.path && fs.lstatSync(where.path, {throwIfNoEntry: false})?.isSocket()) {
  fs.unlinkSync(where.path);  // left behind by an earlier process
}

// allowHalfOpen: the client may end its side before it has read everything.
const server = net.createServer({noDelay: true, allowHalfOpen: true}, (socket) => {
  socket.on('error', () => {});  // the connection is lost, and closes by itself
  socket.pipe(socket);
});
server.on('error', (error) => fail(1, error.message));
server.listen({...where, backlog: 4096}, () => {
  console.log(`node listening on ${where.path ? `unix:${where.path}` :
    `127.0.0.1:${server.address().port}`}`);
});
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
