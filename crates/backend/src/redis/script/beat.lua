#!lua flags=allow-oom
-- A node says that it is alive, hears who else is, and buries those that have not said so for too long.
-- The only clock is that of this server.
--
-- KEYS  beats (id -> time of the last one), records (id -> JSON), dead (id -> time of burial), channel
-- ARGV  id, record, lease in ms, pause in ms after which everybody gets a new lease, ms for which the dead are
--       remembered, time since which the dead are told, "leave" when this is the last time
-- Answer: "dead", or "alive", now, whether the record was known, {id, beat, record ...}, {id, burial ...}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local beats, records, dead, channel = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, lease, pause, kept = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function bury(node)
  redis.call('ZREM', beats, node)
  redis.call('HDEL', records, node)
  redis.call('ZADD', dead, now, node)
  redis.call('SPUBLISH', channel, '!' .. node)
end

if ARGV[7] == 'leave' then
  bury(id)
  return { 'alive', now, 1, {}, {} }
end
if redis.call('ZSCORE', dead, id) then
  return { 'dead' }
end

-- Nobody has beaten for a while: not the nodes were away, but this server. Also when its clock has been set back.
local newest = redis.call('ZREVRANGE', beats, 0, 0, 'WITHSCORES')[2]
if newest and (now - newest > pause or newest - now > 0) then
  for _, node in ipairs(redis.call('ZRANGE', beats, 0, -1)) do
    redis.call('ZADD', beats, now, node)
  end
end

local known = redis.call('HEXISTS', records, id)
redis.call('ZADD', beats, now, id)
redis.call('HSET', records, id, ARGV[2])
for _, node in ipairs(redis.call('ZRANGEBYSCORE', beats, '-inf', now - lease)) do
  bury(node)
end
redis.call('ZREMRANGEBYSCORE', dead, '-inf', now - kept)
redis.call('ZREMRANGEBYRANK', dead, 0, -10001)
for _, key in ipairs({ beats, records, dead }) do
  redis.call('PEXPIRE', key, 2 * kept)
end

local nodes = redis.call('ZRANGE', beats, 0, -1, 'WITHSCORES')
local alive = {}
for at = 1, #nodes, 2 do
  alive[#alive + 1] = nodes[at]
  alive[#alive + 1] = nodes[at + 1]
  alive[#alive + 1] = redis.call('HGET', records, nodes[at]) or '{}'
end
return { 'alive', now, known, alive, redis.call('ZRANGEBYSCORE', dead, ARGV[6], '+inf', 'WITHSCORES') }
