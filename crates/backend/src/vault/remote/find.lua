-- ARGV: session, run
-- Answer: the session, which is of this run from now on, or nothing.
if not extend(ARGV[1]) then return false end
redis.call('HSET', at('s', ARGV[1]), 'run', ARGV[2])
return row(ARGV[1])
