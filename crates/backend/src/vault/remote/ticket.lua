-- What redeeming and renewing have in common.

-- A ticket that is good from this address: user, lifetime of the session, via, record; or the answer.
local function open(hash, ip)
    local t = redis.call('HMGET', at('t', hash), 'user', 'ip', 'ttl', 'via', 'record', 'count')
    if not t[1] or t[6] ~= cutoff(t[1]) then return false, { 'unknown' } end
    if t[2] ~= '' and t[2] ~= ip then return false, { 'address' } end
    return { user = t[1], ttl = tonumber(t[3]), via = t[4], record = t[5] }
end

-- It is used up for this session, whose start and address are given. The answer.
local function admit(hash, ticket, id, started, ip, clock, run)
    redis.call('UNLINK', at('t', hash))
    redis.call('ZREM', P .. ':tickets', hash)
    local fields = { 'started', started, 'via', ticket.via, 'record', ticket.record, 'run', run }
    local function add(name, value)
        table.insert(fields, name)
        table.insert(fields, value)
    end
    local expires = ticket.ttl and string.format('%.0f', tonumber(clock) + ticket.ttl)
    if ip then add('ip', ip) end
    if expires then add('expires', expires) end
    put(id, ticket.user, ticket.ttl, false, fields)
    return { 'admitted', ticket.user, ticket.record, expires or '', ticket.via }
end
