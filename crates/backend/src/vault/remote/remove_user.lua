-- ARGV: id, up to when, origin, version
-- Answer: whether there was one, and the versions.
local removed = redis.call('HDEL', P .. ':users', ARGV[1])
redis.call('ZREM', P .. ':names', ARGV[1])
local revoked = revoke(ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4])
return { removed, revoked[2] }
