#!lua flags=allow-oom
-- A session has taken a turn on a node: it is connected there, was lost, or is over.
--
-- KEYS  session (hash: node, n, state)
-- ARGV  node, number of the turn on that node, "1" when the session has come there just now, else it must not be
--       elsewhere, "on" or "lost" or "over", ms for which this is kept, "1" when what was known may be lost
-- Answer: "here", the node where it was before or ""; or "elsewhere", the node where it is
local was = redis.call('HMGET', KEYS[1], 'node', 'n')
local node, turn = ARGV[1], tonumber(ARGV[2])
if was[1] == node and tonumber(was[2]) > turn then
  return { 'here', '' }
end
if was[1] and was[1] ~= node and ARGV[3] ~= '1' then
  return { 'elsewhere', was[1] }
end
if not was[1] and ARGV[4] == 'lost' and ARGV[3] ~= '1' and ARGV[6] ~= '1' then
  return { 'here', '' } -- it is over, elsewhere: that it was here is no news
end
if ARGV[4] == 'over' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'node', node, 'n', ARGV[2], 'state', ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return { 'here', was[1] and was[1] ~= node and was[1] or '' }
