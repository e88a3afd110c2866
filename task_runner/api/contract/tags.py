"""The parts of the API, in the order in which they are told."""

from __future__ import annotations

TAGS = {
    "Tasks": "Making, reading and controlling tasks.",
    "Output": "What commands have written.",
    "Files": "What is in the working directory of a task.",
    "Events": "Changes, as server-sent events.",
    "Batches": "Tasks that are accepted together, counted together and controlled together.",
    "Templates": "Tasks with placeholders, kept under a name.",
    "Node": "The daemon: how it is, and whether it starts tasks.",
    "Tokens and audit log": "Who may do what, and who did what. All of this needs the scope `admin`.",
    "Web page": "The session of a browser.",
    "Service": "What there is, and whether it works.",
}
