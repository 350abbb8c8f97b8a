-- Done in any case. The answer; and whether enough replicas are connected for it to count as done.
local function change()
