-- ARGV: sessions
-- Answer: which of them are gone, counted from 0. The others are kept on.
local gone = {}
for i = 1, #ARGV do
    if not extend(ARGV[i]) then table.insert(gone, i - 1) end
end
return gone
