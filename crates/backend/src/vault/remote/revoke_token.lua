-- ARGV: token, for how long, origin, version
-- Answer: the number of sessions, and the versions.
local left = tonumber(ARGV[2])
if left > redis.call('PTTL', at('k', ARGV[1])) and left > 0 then
    redis.call('SET', at('k', ARGV[1]), 1, 'PX', left)
end
local ids = redis.call('SMEMBERS', at('b', ARGV[1]))
for _, id in ipairs(ids) do
    bar(id)
    remove(id)
end
return { #ids, tell('gone', ARGV[3], ARGV[4]) }
