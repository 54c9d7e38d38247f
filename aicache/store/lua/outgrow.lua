-- A stream has become too large to be had as a whole: let those go who wait for that, and keep others away.
-- KEYS: lease, what there is of the stream
-- ARGV: token, the message
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'outgrown', 1)
  redis.call('DEL', KEYS[2])
  for _, ear in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.find(ear, ':', 1, true) then
      redis.pcall('PUBLISH', ear, ARGV[2])
    end
  end
end
