if few() then return redis.error_reply('NOREPLICAS Not enough replicas are connected') end
