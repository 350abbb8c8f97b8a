-- ARGV: run, sessions
-- One that another node has taken over since is its.
for i = 2, #ARGV do
    if redis.call('HGET', at('s', ARGV[i]), 'run') == ARGV[1] then remove(ARGV[i]) end
end
return 1
