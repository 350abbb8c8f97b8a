-- ARGV: most, origin, version
-- Answer: whether there is more, and the versions if secrets were forgotten.
local most = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', P .. ':tickets', '-inf', now)
local more = purge(most) >= most and 1 or 0
-- To whom it is told, that reads all secrets anew.
if retire() then tell('lists', '', ARGV[3]) end
return more
