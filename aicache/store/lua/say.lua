-- Add to what there is of a stream, and tell the processes that wait for it.
-- KEYS: lease, what there is of the stream
-- ARGV: token, at which place, the bytes, head of the message, lease in ms, ear of one's own process,
--       what lets those go who wait for the whole; '' where it is not too large for that
-- → {'late'}, {'from', place}: what comes before is not there; or {'said', how many other processes wait}
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
  return {'late'}
end
if ARGV[7] == '' then
  local there = redis.call('STRLEN', KEYS[2])
  if there ~= tonumber(ARGV[2]) then
    return {'from', there}
  end
  redis.call('APPEND', KEYS[2], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
local outgrows = ARGV[7] ~= '' and not redis.call('HGET', KEYS[1], 'outgrown')
if outgrows then -- nobody else is to come
  redis.call('HSET', KEYS[1], 'outgrown', 1)
  redis.call('DEL', KEYS[2])
end
local others = 0
for _, ear in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.find(ear, ':', 1, true) then
    if outgrows then
      redis.pcall('PUBLISH', ear, ARGV[7])
    end
    if ear ~= ARGV[6] then
      others = others + 1
      redis.pcall('PUBLISH', ear, ARGV[4] .. ARGV[3])
    end
  end
end
return {'said', others}
