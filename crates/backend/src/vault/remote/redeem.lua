-- ARGV: ticket, address, clock of the node, session, its start, run
local ticket, refused = open(ARGV[1], ARGV[2])
if not ticket then return refused end
purge(4)
if redis.call('EXISTS', at('s', ARGV[4])) == 1 then return { 'taken' } end
return admit(ARGV[1], ticket, ARGV[4], ARGV[5], ARGV[2] ~= '' and ARGV[2], ARGV[3], ARGV[6])
