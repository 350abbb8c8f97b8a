-- ARGV, at the end: how many replicas have to be connected.

-- Whether fewer are: what is stored now is lost if this server is.
local function few()
    local least, online = tonumber(ARGV[#ARGV]), 0
    if least == 0 then return false end
    for lag in string.gmatch(redis.call('INFO', 'replication'), 'slave%d+:[^\r\n]*state=online[^\r\n]*lag=(%d+)') do
        if tonumber(lag) <= 10 then online = online + 1 end
    end
    return online < least
end
