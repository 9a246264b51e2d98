-- A mail of each kind a minute would still be 1,440 a day to somebody who wants none of them: after ten within a day it is one an hour. Not none,
-- because whoever has lost a password needs the link, however many were asked for by others. A row
-- means something for a day then.
alter table mails
    -- Mails of this kind to this address since then.
    add column count integer not null default 1,
    add column since timestamptz not null default now();
