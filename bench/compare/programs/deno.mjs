// Deno's own server: echo, and a broadcast to every open socket.
const room = new Set();
Deno.serve(
  { hostname: '127.0.0.1', port: 0, onListen: ({ port }) => console.log(`ready ${port}`) },
  (request) => {
    const echo = new URL(request.url).pathname === '/echo';
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    if (echo) {
      socket.onmessage = ({ data }) => socket.send(data);
    } else {
      socket.onopen = () => room.add(socket);
      socket.onclose = () => room.delete(socket);
      socket.onmessage = ({ data }) => {
        for (const member of room) if (member.readyState === WebSocket.OPEN) member.send(data);
      };
    }
    socket.onerror = () => {};
    return response;
  },
);
