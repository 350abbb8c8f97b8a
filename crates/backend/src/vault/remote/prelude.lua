-- What all scripts of the vault begin with. KEYS[1] is what all its keys begin with and the name of its channel; it
-- has the hash tag. Times are of this server: milliseconds since 1970.

local P = KEYS[1]
local stamp = redis.call('TIME')
local now = stamp[1] * 1000 + math.floor(stamp[2] / 1000)
-- So long a session is kept that no node asks for.
local LEASE = 24 * 60 * 60 * 1000

local function at(kind, id)
    return P .. ':' .. kind .. ':' .. id
end

-- What may be missing comes as '' or as '=' and the text.
local function maybe(arg)
    if arg == '' then return false end
    return string.sub(arg, 2)
end

-- A session in the order of what ends.
local function line(id, user, token)
    return cmsgpack.pack(token and { id, user, token } or { id, user })
end

local function forget(id, user, token)
    redis.call('ZREM', P .. ':sessions', id)
    redis.call('ZREM', P .. ':due', line(id, user, token))
    redis.call('ZREM', at('u', user), id)
    if token then redis.call('SREM', at('b', token), id) end
end

-- Removes a session; whether there was one.
local function remove(id)
    local known = redis.call('HMGET', at('s', id), 'user', 'token')
    if not known[1] then return false end
    redis.call('UNLINK', at('s', id))
    forget(id, known[1], known[2])
    return true
end

-- Removes what is left of some sessions that have ended by themselves, and says how many.
local function purge(most)
    local over = redis.call('ZRANGEBYSCORE', P .. ':due', '-inf', now, 'LIMIT', 0, most)
    for _, packed in ipairs(over) do
        local it = cmsgpack.unpack(packed)
        redis.call('UNLINK', at('s', it[1]))
        forget(it[1], it[2], it[3])
    end
    return #over
end

-- Keeps a session. `left`: how long it may last, false for ever. `fields`: the others.
local function put(id, user, left, token, fields)
    local s = at('s', id)
    local due = now + math.max(1, math.min(left or LEASE, LEASE))
    redis.call('HSET', s, 'user', user, unpack(fields))
    if token then redis.call('HSET', s, 'token', token) end
    if left then redis.call('HSET', s, 'ends', now + left) end
    redis.call('PEXPIREAT', s, due)
    redis.call('ZADD', P .. ':sessions', 0, id)
    redis.call('ZADD', P .. ':due', due, line(id, user, token))
    redis.call('ZADD', at('u', user), 0, id)
    if token then redis.call('SADD', at('b', token), id) end
end

-- A node asks for a session: it is kept on. Whether there is one.
local function extend(id)
    local s = at('s', id)
    local left = redis.call('PTTL', s)
    if left == -2 then return false end
    if left < LEASE / 2 then
        local known = redis.call('HMGET', s, 'user', 'token', 'ends')
        local due = math.min(tonumber(known[3] or now + LEASE), now + LEASE)
        if due > now + math.max(left, 0) + 1000 then
            redis.call('PEXPIREAT', s, due)
            redis.call('ZADD', P .. ':due', due, line(id, known[1], known[2]))
        end
    end
    return true
end

-- How often a user was revoked, and up to when what was issued is refused.
local function cutoff(user)
    local found = redis.call('HGET', P .. ':cutoffs', user)
    if not found then return '0', false end
    local count, upto = string.match(found, '^(%d+) (%d+)$')
    return count, tonumber(upto)
end

-- Something has changed that other nodes have to know. The version before, and the one since.
local function tell(kind, origin, version, ...)
    local before = redis.call('HGET', P .. ':versions', kind) or ''
    redis.call('HSET', P .. ':versions', kind, version)
    redis.call('SPUBLISH', P, cjson.encode({ origin, kind, before, version, ... }))
    return { before, version }
end

-- Revokes a user: tickets from before are of an earlier count. The number of sessions, and the versions.
local function revoke(user, upto, origin, version)
    local count, before = cutoff(user)
    -- A clock that is ahead is believed within reason, so that what it has issued is refused, too.
    upto = math.max(now, math.min(upto, now + 60000), before or 0)
    redis.call('HSET', P .. ':cutoffs', user, string.format('%.0f %.0f', tonumber(count) + 1, upto))
    local ended = 0
    for _, id in ipairs(redis.call('ZRANGE', at('u', user), 0, -1)) do
        if remove(id) then ended = ended + 1 end
    end
    return { ended, tell('gone', origin, version) }
end

-- A session that was revoked must not come back by a refresh that was under way.
local function bar(id)
    redis.call('SET', at('x', id), 1, 'PX', 600000)
end

-- A session as the vault reads it.
local function row(id)
    local found = redis.call('HMGET', at('s', id),
        'user', 'ip', 'started', 'expires', 'issued', 'token', 'via', 'record')
    if not found[1] then return false end
    table.insert(found, 1, id)
    -- An array ends with the first nil; false stays.
    return found
end

-- Forgets secrets that were retired a day ago, or are too many. Whether there were any.
local function retire()
    local secrets = redis.call('LRANGE', P .. ':secrets', 0, -1)
    local forgotten = false
    for i, secret in ipairs(secrets) do
        local retired = string.match(secret, ' (%d+)$')
        if i > 17 or (retired and retired + LEASE <= now) then
            redis.call('LREM', P .. ':secrets', 1, secret)
            forgotten = true
        end
    end
    return forgotten
end
