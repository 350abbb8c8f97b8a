// An echo server on `ws`. Prints its port; settings as JSON in the first argument:
// {maxPayload, protocol, deflate, handshakeTimeout (ms)}. A text "close CODE REASON" asks it to close.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const settings = { maxPayload: 16 << 20, deflate: true, handshakeTimeout: 10_000, ...JSON.parse(process.argv[2] ?? '{}') };

const http = createServer({
  headersTimeout: settings.handshakeTimeout,
  requestTimeout: settings.handshakeTimeout,
  connectionsCheckingInterval: 100,
}, (_, response) => response.writeHead(426, { Upgrade: 'websocket' }).end());

const server = new WebSocketServer({
  server: http,
  maxPayload: settings.maxPayload,
  perMessageDeflate: settings.deflate,
  handleProtocols: (offered) => (offered.has(settings.protocol) ? settings.protocol : false),
});

server.on('connection', (socket) => {
  socket.on('error', () => {}); // `ws` closes by itself with the right code
  socket.on('message', (data, binary) => {
    const wish = !binary && data.length < 200 && /^close (\d+) ?(.*)$/.exec(data.toString());
    if (wish) socket.close(Number(wish[1]), wish[2]);
    else socket.send(data, { binary });
  });
});

http.listen(0, '127.0.0.1', () => console.log(http.address().port));
process.stdin.resume().on('end', () => process.exit(0)); // goes when its starter goes
