"""Layer 7: what each command reads and says, and how all of them end.

`refmiracle.start` starts them; nothing else imports them.
"""
