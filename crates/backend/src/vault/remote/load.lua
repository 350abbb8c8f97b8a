-- ARGV: the version of the lists that is known, a secret if one is needed, version
-- Answer: versions of lists and of what is gone; tickets, sessions, users; and members, bans, secrets and when all of it
-- was made, if they are others than those known.
purge(1000)
redis.call('ZREMRANGEBYSCORE', P .. ':tickets', '-inf', now)
if redis.call('LLEN', P .. ':secrets') == 0 then
    redis.call('RPUSH', P .. ':secrets', ARGV[2])
    redis.call('HSET', P .. ':versions', 'made', ARGV[3])
    tell('lists', '', ARGV[3])
end
local versions = redis.call('HMGET', P .. ':versions', 'lists', 'gone', 'made')
local told = {
    versions[1] or '',
    versions[2] or '',
    redis.call('ZCARD', P .. ':tickets'),
    redis.call('ZCARD', P .. ':sessions'),
    redis.call('HLEN', P .. ':users'),
}
if versions[1] ~= ARGV[1] then
    table.insert(told, redis.call('HGETALL', P .. ':members'))
    table.insert(told, redis.call('HGETALL', P .. ':bans'))
    table.insert(told, redis.call('LRANGE', P .. ':secrets', 0, -1))
    table.insert(told, versions[3] or '')
end
return told
