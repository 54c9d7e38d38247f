-- Tags died: give each another stamp. A tag without one has nothing alive hanging on it, and needs none.
-- KEYS: the tags that died, stamps
-- ARGV: a fresh stamp, for how many ms it is remembered that they died, digests of the tags
for i = 2, #KEYS do
  if redis.call('SET', KEYS[i], ARGV[1], 'XX', 'KEEPTTL') then
    -- Beside the point, and never in its way. Where nobody frees what died, it goes by age: these need not be many.
    local known = redis.pcall('SCARD', KEYS[1])
    if type(known) == 'number' and known < 100000 then
      redis.pcall('SADD', KEYS[1], ARGV[i + 1])
      redis.pcall('PEXPIRE', KEYS[1], ARGV[2])
    end
  end
end
