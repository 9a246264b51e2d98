-- When operations were last told that there is little left. Orders and cancellations can take the stock of a product to the threshold and
-- back all day long; it is told once a day then, and at once after a restock. Null: not told, or restocked since.
alter table products add column low_told_at timestamptz;
