-- ARGV: session, user, address, start, end, lifetime, issued, token, via, record, run
-- Answer: 1, or 0 when it is refused.
local id, user = ARGV[1], ARGV[2]
local issued, token = tonumber(ARGV[7]), maybe(ARGV[8])
local _, upto = cutoff(user)
if upto and (not issued or issued <= upto) then return 0 end
if token and redis.call('EXISTS', at('k', token)) == 1 then return 0 end
if redis.call('EXISTS', at('x', id)) == 1 then return 0 end
local known = redis.call('HMGET', at('s', id), 'user', 'started', 'ip', 'token')
local started, ip = ARGV[4], ARGV[3] ~= '' and ARGV[3]
if known[1] then
    if known[1] ~= user then return 0 end
    started, ip = known[2], known[3]
    redis.call('UNLINK', at('s', id))
    forget(id, user, known[4])
end
purge(4)
local fields = { 'started', started, 'via', ARGV[9], 'record', ARGV[10], 'run', ARGV[11] }
local function add(name, value)
    table.insert(fields, name)
    table.insert(fields, value)
end
if ip then add('ip', ip) end
if ARGV[5] ~= '' then add('expires', ARGV[5]) end
if ARGV[7] ~= '' then add('issued', ARGV[7]) end
put(id, user, tonumber(ARGV[6]), token, fields)
return 1
