-- ARGV: user or '' , behind which, how many
-- Answer: the last one looked at, and sessions; fewer than wanted only at the end.
local whose = maybe(ARGV[1])
local index = whose and at('u', whose) or P .. ':sessions'
local after, most = '(' .. ARGV[2], tonumber(ARGV[3])
if ARGV[2] == '' then after = '-' end
local rows = {}
while #rows < most do
    local wanted = most - #rows
    local ids = redis.call('ZRANGEBYLEX', index, after, '+', 'LIMIT', 0, wanted)
    for _, id in ipairs(ids) do
        local found = row(id)
        if found then table.insert(rows, found) end
    end
    if #ids < wanted then break end
    after = '(' .. ids[#ids]
end
return rows
