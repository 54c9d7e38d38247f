-- renew
-- Lengthen a lease that is still one's own. A lease that is gone is not taken again: somebody may have led since.
-- KEYS: lease, and what lives as long: the mark of its answer, what there is of a stream; or other gates that it shuts
-- ARGV: token, lease in ms, ear of one's own process
-- → 0 where it is gone, else how many other processes wait for it, and 1
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
for i = #KEYS, 1, -1 do
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
local others = 1
for _, ear in ipairs(redis.call('HKEYS', KEYS[1])) do
  if ear ~= ARGV[3] and string.find(ear, ':', 1, true) then
    others = others + 1
  end
end
return others
