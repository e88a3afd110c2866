import json,sys,os,subprocess,time
from test_container_survival import boat, container, WRITES, pytestmark, begun, monitor_of, kill, go, machine_of
from task_runner.lib import process
def test_dbg(boat, podman_server):
    t = begun(boat)
    cid = boat.task(t)["actions"][0]["container"]["id"]
    main = boat.alive(t)[0]
    kill(monitor_of(main.pid))
    go(boat, t)
    m = machine_of(boat,t)
    for _ in range(8):
        time.sleep(3)
        task=boat.task(t)
        print(time.monotonic(), task["state"], task["outcome"], task["error"], boat.alive(t))
        print(subprocess.run(["curl","-s","-m","10","--unix-socket",str(podman_server.socket),f"http://d/v1.40/containers/{cid}/json"],capture_output=True,text=True).stdout[:700])
        for th in os.listdir(f"/proc/{m.pid}/task"):
            print(th, open(f"/proc/{m.pid}/task/{th}/wchan").read())
        if task["outcome"]: break
    assert 0
