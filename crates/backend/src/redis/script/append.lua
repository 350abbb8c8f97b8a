-- Stores messages that have not been stored before.
--
-- KEYS: then hashes of what each session has sent: `ref` -> `born:seq:time`; of messages without `ref` that is `o` and
-- the count of its node.
-- ARGV: then for each message the number of its hash, its `ref`, how long that is remembered, and the message.
-- Answer: the epoch; then for each message its number, its time, and 1 if it was stored before.

if ARGV[6] ~= '0' then
  local online = 0
  for lag in string.gmatch(info, 'slave%d+:[^\r\n]*state=online[^\r\n]*lag=(%d+)') do
    if tonumber(lag) <= 10 then
      online = online + 1
    end
  end
  if online < tonumber(ARGV[6]) then
    return redis.error_reply('NOREPLICAS Not enough replicas are connected')
  end
end

local before, answer, news = seq, { epoch }, {}
for i = 7, #ARGV, 4 do
  local hash, ref, message = KEYS[3 + tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 3]
  local known = redis.call('HMGET', hash, ref, 'gone')
  local lineage, number, stamp = string.match(known[1] or '', '^(%d+):(%d+):(%d+)$')
  local count, gone = tonumber(string.match(ref, '^o(%d+)$')), tonumber(known[2])
  if count and gone and count <= gone then
    -- So old that it is no longer known whether it was stored: nobody waits for it any more.
    answer[#answer + 1] = 0
    answer[#answer + 1] = 0
    answer[#answer + 1] = 1
  elseif lineage == born and tonumber(number) <= seq then
    answer[#answer + 1] = tonumber(number)
    answer[#answer + 1] = tonumber(stamp)
    answer[#answer + 1] = 1
  else
    redis.call('XADD', STREAM, int(seq + 1) .. '-0', 't', int(now), 'x', message)
    seq, kept = seq + 1, kept + #message
    if first == seq then
      old = now
    end
    redis.call('HSET', hash, ref, born .. ':' .. int(seq) .. ':' .. int(now))
    redis.call('PEXPIRE', hash, ARGV[i + 2])
    if redis.call('HLEN', hash) > 320 then
      local sent, oldest = redis.call('HGETALL', hash), {}
      for n = 1, #sent, 2 do
        if sent[n] ~= 'gone' then
          oldest[#oldest + 1] = { sent[n], tonumber(string.match(sent[n + 1], ':(%d+):') or 0) }
        end
      end
      table.sort(oldest, function(a, b) return a[2] < b[2] end)
      gone = gone or 0
      for n = 1, #oldest - 256 do
        redis.call('HDEL', hash, oldest[n][1])
        gone = math.max(gone, tonumber(string.match(oldest[n][1], '^o(%d+)$')) or 0)
      end
      if gone > 0 then
        redis.call('HSET', hash, 'gone', int(gone))
      end
    end
    news[#news + 1] = #message .. '\n' .. message
    answer[#answer + 1] = seq
    answer[#answer + 1] = now
    answer[#answer + 1] = 0
  end
end

if seq > before then
  time = now
  redis.call('HSET', STATE, 'seq', int(seq), 'time', int(time), 'old', int(old), 'bytes', int(kept))
  trim()
  redis.call('SPUBLISH', STATE,
    'S' .. epoch .. ' ' .. int(before + 1) .. ' ' .. int(now) .. '\n' .. table.concat(news))
end
touch()
return answer
