-- What every script of a room begins with: where the room is, and whose its numbers are.
--
-- KEYS: the state (and the channel of that name), the stream, the roll; then whatever the script needs.
-- ARGV: the owner ('' for this server as it runs now), the epoch to begin if one has to begin, and what is kept:
-- messages, bytes, milliseconds; how many replicas have to be there.
--
-- Epochs are 64 bits and stay text; everything else is below 2^53.

local STATE, STREAM, ROLL = KEYS[1], KEYS[2], KEYS[3]
local fresh, size, bytes, ttl = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local life = math.max(ttl, 3600000)

local function int(n)
  return string.format('%.0f', n)
end

-- What is not allowed has to show before anything is changed.
if not redis.acl_check_cmd('SPUBLISH', STATE, '') then
  return redis.error_reply('NOPERM this user may not SPUBLISH to ' .. STATE)
end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local owner, info = ARGV[1], ''
if owner == '' or ARGV[6] ~= '0' then
  info = redis.pcall('INFO', 'replication')
  if type(info) == 'table' then
    return redis.error_reply('NOPERM this user may not ask for INFO')
  end
end
if owner == '' then
  -- Plain searches: patterns are tried at every place of a long text.
  local _, at = string.find(info, 'master_replid:', 1, true)
  owner = string.match(info, '^%w+', at + 1)
end

local state = redis.call('HMGET', STATE, 'epoch', 'owner', 'born', 'seq', 'time', 'first', 'old', 'bytes', 'seats')
local epoch, born = state[1], state[3]
local seq, time, first = tonumber(state[4] or nil), tonumber(state[5] or nil), tonumber(state[6] or nil)
local old, kept, seats = tonumber(state[7] or nil), tonumber(state[8] or nil), tonumber(state[9] or nil)

local function begin()
  redis.call('HSET', STATE, 'epoch', epoch, 'owner', owner, 'born', born, 'seq', int(seq), 'time', int(time),
    'first', int(first), 'old', int(old), 'bytes', int(kept), 'seats', int(seats))
end

if not (epoch and born and seq and time and first and old and kept and seats) then
  -- Nothing is known: what else is there belongs to something that is gone.
  redis.call('DEL', STATE, STREAM, ROLL)
  epoch, born, seq, time, first, old, kept, seats = fresh, fresh, 0, now, 1, now, 0, now * 1000
  begin()
elseif state[2] ~= owner then
  -- Another server gave the last numbers, or this one before it was started: there may have been more of them.
  epoch, seats = fresh, seats + 1000000
  begin()
end
now = math.max(now, time)

local function touch()
  redis.call('PEXPIRE', STATE, int(life))
  redis.call('PEXPIRE', STREAM, int(life))
  redis.call('PEXPIRE', ROLL, int(life))
end

local function too_much()
  return first <= seq and (seq - first + 1 > size or kept > bytes or old < now - ttl)
end

-- Removes what is too much, too large or too old.
local function trim()
  local from = first
  if first <= seq and time < now - ttl then
    first, kept = seq + 1, 0
  end
  while too_much() do
    local count = math.min(128, math.max(1, seq - first + 1 - size)) + 1
    local oldest = redis.call('XRANGE', STREAM, int(first), '+', 'COUNT', int(count))
    if #oldest == 0 then
      first, kept = seq + 1, 0
    end
    for _, message in ipairs(oldest) do
      first, old = tonumber(string.match(message[1], '^%d+')), tonumber(message[2][2])
      if not too_much() then
        break
      end
      first, kept = first + 1, kept - #message[2][4]
    end
  end
  if first == from then
    return
  end
  if first > seq then
    kept = 0
  end
  redis.call('XTRIM', STREAM, 'MINID', '=', int(first))
  redis.call('HSET', STATE, 'first', int(first), 'old', int(old), 'bytes', int(kept))
end
