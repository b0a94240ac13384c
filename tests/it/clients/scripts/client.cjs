'use strict';
// The ways a program on Node goes out: fetch, https, and (from npm) undici and ws.
const [, , how, packages] = process.argv;
const say = (...words) => console.log(how, ...words);
const fail = (error) => {
  console.error(how, error, error.cause);
  process.exit(1);
};

const ways = {
  async fetch() {
    const reply = await fetch('https://api.test/node', { method: 'POST', body: 'from node' });
    say(reply.status, (await reply.json()).body);
  },
  https() {
    const request = require('https').request('https://api.test/node', { method: 'POST' }, (reply) => {
      let text = '';
      reply.on('data', (piece) => (text += piece));
      reply.on('end', () => say(reply.statusCode, JSON.parse(text).body));
    });
    request.on('error', fail);
    request.end('from node');
  },
  async undici() {
    const { request } = require(packages + '/undici');
    const reply = await request('https://api.test/node', { method: 'POST', body: 'from node' });
    say(reply.statusCode, (await reply.body.json()).body);
  },
  async sse() {
    const reply = await fetch('https://api.test/sse?n=2');
    let text = '';
    for await (const piece of reply.body) text += Buffer.from(piece).toString();
    say(reply.status, JSON.stringify(text));
  },
  ws() {
    const WebSocket = require(packages + '/ws');
    const socket = new WebSocket('wss://api.test/ws');
    socket.on('error', fail);
    socket.on('open', () => socket.send('from node'));
    socket.on('message', (message) => {
      say(101, message.toString());
      socket.close();
    });
  },
};
Promise.resolve(ways[how]()).catch(fail);
