-- Where the room is, its messages behind a number, and who is there.
--
-- ARGV: then the number ('' for the newest messages), how many at most, and the state of the roll that is known.
-- Answer: the epoch, the last number, its time, the state of the roll; the messages; the roll if it is another one.

trim()
local after, most = tonumber(ARGV[7]), tonumber(ARGV[8])
if not after then
  after = math.max(first - 1, seq - most)
end
local past = {}
if most > 0 and after < seq then
  past = redis.call('XRANGE', STREAM, int(after + 1), '+', 'COUNT', int(most))
end
local roll = false
if int(seats) ~= ARGV[9] then
  roll = redis.call('HGETALL', ROLL)
end
touch()
return { epoch, seq, time, seats, past, roll }
