-- ARGV: ticket, user, address, lifetime, lifetime of the session, via, record
-- Answer: 1, or 0 when there are too many or there is one like it.
local t = at('t', ARGV[1])
local left = tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', P .. ':tickets', '-inf', now)
if redis.call('ZCARD', P .. ':tickets') >= 1000000 or redis.call('EXISTS', t) == 1 then return 0 end
if left <= 0 then return 1 end
redis.call('HSET', t, 'user', ARGV[2], 'ip', ARGV[3], 'ttl', ARGV[5], 'via', ARGV[6], 'record', ARGV[7],
    'count', (cutoff(ARGV[2])))
redis.call('PEXPIREAT', t, now + left)
redis.call('ZADD', P .. ':tickets', now + left, ARGV[1])
return 1
