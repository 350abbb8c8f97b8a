-- ARGV: ticket, address, clock of the node, session, user, run
local ticket, refused = open(ARGV[1], ARGV[2])
if not ticket then return refused end
local known = redis.call('HMGET', at('s', ARGV[4]), 'user', 'started', 'ip', 'token')
if known[1] ~= ARGV[5] or ticket.user ~= ARGV[5] then return { 'unknown' } end
redis.call('UNLINK', at('s', ARGV[4]))
forget(ARGV[4], known[1], known[4])
return admit(ARGV[1], ticket, ARGV[4], known[2], known[3], ARGV[3], ARGV[6])
