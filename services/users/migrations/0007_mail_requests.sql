-- Requests for mails are counted, too, for each network: nobody needs a hundred of them within minutes, but whoever annoys people with our mails.
alter table throttles drop constraint throttles_scope_check;
alter table throttles add constraint throttles_scope_check check (scope in ('account', 'client', 'mails'));
