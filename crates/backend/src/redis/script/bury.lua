-- A node is dead: its users are gone, and it is remembered for a day that nothing it says counts.
--
-- ARGV: then the node. Answer: the state of the roll.

local dead = ARGV[7]
if redis.call('HEXISTS', ROLL, 'x' .. dead) == 1 then
  return seats
end

local function each(pattern, remove)
  local cursor = '0'
  repeat
    local found = redis.call('HSCAN', ROLL, cursor, 'MATCH', pattern, 'COUNT', '1000')
    cursor = found[1]
    for i = 1, #found[2], 2 do
      if remove(found[2][i + 1]) then
        redis.call('HDEL', ROLL, found[2][i])
      end
    end
  until cursor == '0'
end

each('u' .. dead .. ':*', function() return true end)
each('x*', function(when) return (tonumber(when) or 0) < now - 86400000 end)
redis.call('HSET', ROLL, 'x' .. dead, int(now))
seats = seats + 1
redis.call('HSET', STATE, 'seats', int(seats))
redis.call('SPUBLISH', STATE, 'B' .. dead .. ' ' .. int(seats) .. '\n')
touch()
return seats
