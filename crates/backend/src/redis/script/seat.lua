-- Users of a node come or go.
--
-- ARGV: then the node, and for each change `+` or `-`, the user, and who that is.
-- Answer: the state of the roll after the last change; nothing if the node was taken for dead.

local node = ARGV[7]
if redis.call('HEXISTS', ROLL, 'x' .. node) == 1 then
  return false
end
local before, news = seats, {}
for i = 8, #ARGV, 3 do
  local field, said = 'u' .. node .. ':' .. ARGV[i + 1], ARGV[i + 1]
  if ARGV[i] == '+' then
    said = ARGV[i + 2]
    redis.call('HSET', ROLL, field, said)
  else
    redis.call('HDEL', ROLL, field)
  end
  seats = seats + 1
  news[#news + 1] = ARGV[i] .. #said .. '\n' .. said
end
redis.call('HSET', STATE, 'seats', int(seats))
redis.call('SPUBLISH', STATE, 'N' .. node .. ' ' .. int(before) .. '\n' .. table.concat(news))
touch()
return seats
