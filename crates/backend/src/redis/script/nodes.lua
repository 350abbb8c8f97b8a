#!lua flags=no-writes
-- Which nodes there are, for somebody who is none of them.
-- KEYS  beats, records
-- Answer: as that of a beat
local time = redis.call('TIME')
local alive = {}
local nodes = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for at = 1, #nodes, 2 do
  alive[#alive + 1] = nodes[at]
  alive[#alive + 1] = nodes[at + 1]
  alive[#alive + 1] = redis.call('HGET', KEYS[2], nodes[at]) or '{}'
end
return { 'alive', time[1] * 1000 + math.floor(time[2] / 1000), 1, alive, {} }
