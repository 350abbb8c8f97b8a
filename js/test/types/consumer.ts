// A program that uses the package by its types; compiled by test/unit/package.test.js.
import { connect, ThrongError, CODES } from 'throng';
import type { Ack, Client, Message, Options, Page, Room, Session, Status, Store, User } from 'throng';
import { share } from 'throng/share';

const session: Store<Session> = { load: async () => null, save: async (value) => console.log(value.token, value.ref) };
const options: Options = { name: 'Ada', ticket: async ({ refresh }) => (refresh ? null : 'k'), token: () => 'jwt', refresh: 30_000, outbox: 'local', session, backoff: { base: 100 }, transport: 'auto', uncertain: 'resend' };
const client: Client = connect('/ws', options);
const off: () => void = client.on('status', ({ status, retryIn, code }: Status) => console.log(status, retryIn?.toFixed(), code));
client.on('error', (error: ThrongError) => console.log(error.code, error.temporary, error.retryAfter, error.payload));
client.on('message', (message: Message) => console.log(message.from, message.seq));
client.on('limited', ({ room, code, retryIn }) => console.log(room, code, retryIn.toFixed()));
client.on('signedout', ({ reason }) => console.log(reason?.length, client.expiresAt.toFixed()));
client.on('outbox', (pending) => pending.map(({ id, room, message, sent }) => [id, room, message.type, sent]));
const room: Room = client.join('chat:1', { rewind: 50, presence: true, echo: true, since: { epoch: 'e', seq: 1 } });
room.on('chat', ({ from, text }) => console.log(from, text));
room.on('lost', ({ epoch, since }) => console.log(epoch.length, since.seq));
room.on('user_joined', ({ userId, info }) => console.log(userId.length, info));
const users: Map<string, User> = room.users;
const ack: Ack | undefined = await room.send({ type: 'chat', text: 'hi' });
const page: Page = await room.history({ before: ack?.seq, limit: 10 });
const joined: Room = await room.ready;
await client.direct('u_1').send({ type: 'letter' });
const time: number = await client.ping();
const { expiresAt }: { expiresAt?: number } = await client.authenticate('k2');
const temporary: boolean = CODES.rate_limited;
console.log(expiresAt, off, users.size, page.messages[0]?.timestamp, joined.userCount, time, temporary, client.me.epoch, typeof share);
client.discard(client.pending[0]?.id ?? 0);
client.close();

// @ts-expect-error: a message needs a type
void room.send({ text: 'hi' });
// @ts-expect-error: there is no such transport
connect('/ws', { transport: 'carrier pigeon' });
// @ts-expect-error: there is no such event
client.on('statsu', () => {});
// @ts-expect-error: seq is a number
client.join('r', { since: { epoch: 'e', seq: '1' } });
