-- ARGV: id, the rest
redis.call('HSET', P .. ':users', ARGV[1], ARGV[2])
redis.call('ZADD', P .. ':names', 0, ARGV[1])
return 1
