-- A head is looked for by all three columns. With the key first, the one that differs, each step of the search compares one column instead of three.
alter table messaging.consumer_head
    drop constraint consumer_head_pkey,
    add primary key (key, producer, consumer);
