"""What the conformance commands share: starting servers, raw WebSocket connections, reports.

Only the standard library, so that nothing between a test and the socket can repair what the
test breaks on purpose.

- `servers`: throng and the servers it is compared with, each on a free loopback port
- `frames`: frames and handshake requests as bytes, also the ones no library would build
- `connection`: a socket that reads responses and frames while it writes
- `report`: tables, and the sections of docs/conformance.md
"""
