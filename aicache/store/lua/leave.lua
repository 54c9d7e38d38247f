-- Let go of a lease for which nobody waits.
-- KEYS: lease, what there is of the stream
-- ARGV: token
-- → 1 where somebody waits
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return 0
end
for _, ear in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.find(ear, ':', 1, true) then
    return 1
  end
end
redis.call('DEL', KEYS[1], KEYS[2])
return 0
