-- An event that the broker closes the channel over, as over one that the service may not publish, is held like the others that it does not take.
alter table messaging.outbox_hold
    drop constraint outbox_hold_reason_check,
    add constraint outbox_hold_reason_check check (reason in ('nacked', 'unroutable', 'refused'));
