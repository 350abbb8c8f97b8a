-- ARGV: id
return redis.call('HGET', P .. ':users', ARGV[1])
