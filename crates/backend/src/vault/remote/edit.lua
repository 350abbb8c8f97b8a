-- ARGV: members or bans, room and user, what is set or '' for nothing, origin, version
-- Answer: whether there was something before, and the versions if anything has changed.
local key = P .. ':' .. ARGV[1]
local before, after = redis.call('HGET', key, ARGV[2]), maybe(ARGV[3])
if before == after then return { before and 1 or 0 } end
if after then
    redis.call('HSET', key, ARGV[2], after)
else
    redis.call('HDEL', key, ARGV[2])
end
return { before and 1 or 0, tell('lists', ARGV[4], ARGV[5], ARGV[1], ARGV[2], ARGV[3]) }
