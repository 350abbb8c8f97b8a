-- ARGV: secret, origin, version
-- Answer: the versions, and all secrets, the newest first.
local signs = redis.call('LINDEX', P .. ':secrets', 0)
if signs then redis.call('LSET', P .. ':secrets', 0, string.format('%s %.0f', signs, now)) end
redis.call('LPUSH', P .. ':secrets', ARGV[1])
retire()
return { tell('lists', ARGV[2], ARGV[3]), redis.call('LRANGE', P .. ':secrets', 0, -1) }
