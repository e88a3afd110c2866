import sys; sys.path.insert(0,'/work/main/tests'); sys.path.insert(0,'/work/main')
from test_container_machine import remote, runners
import pytest
def test_stress(remote):
    bad=[]
    for i in range(40):
        it = remote()
        last = it.run("echo", "fetched")
        if it.output != b"fetched\n" or last["code"]!=0: bad.append((i, it.output, last))
        print(i, it.output, last.get("code"), flush=True)
    assert not bad, bad
