/**
 * The command lines that docker's CLI and ours are both given, in this order. `@name` is a name of the client's own, `W` the directory of files, `'…'` quotes,
 * ` <<< text` is what comes by standard input (`\n` a line's end); a line's exit code, output and errors are compared.
 * @module
 */

export interface Group {
  readonly name: string;
  readonly lines: readonly string[];
}

function group(name: string, lines: string): Group {
  return { name, lines: lines.split("\n").filter((line) => line !== "") };
}

const groups: readonly Group[] = [
  group(
    "the program",
    `
nonsense
rn
imgaes
container nonsense
container lss
image nonsense
volume nonsense
network nonsense
system nonsense
context nonsense
builder nonsense
container nonsense --help
nonsense --help
--nonsense
--nonsense ps
-Z
--log-level
--log-level nonsense ps
-l debug ps -q --filter name=nobody
--debug ps -q --filter name=nobody
-D ps -q --filter name=nobody
--config W/config ps -q --filter name=nobody
--context nonsense ps
-c nonsense ps
-H nonsense://x ps
-H unix://W/nobody.sock ps
-H tcp://127.0.0.1:1 ps
--host
container
image
volume
network
system
context
builder
manifest
container --nonsense
image -Z
help nonsense
help container nonsense
ps --help=true
ps -h
ps nonsense
ps --nonsense
ps -Z
ps -aZ
ps --last
ps -n
ps -n x
ps --last=x
ps --all=perhaps
ps -a=perhaps
images --digests=2
ps --no-trunc=
ps --filter
ps --filter nonsense
ps --filter nonsense=1
ps -f status=nonsense
ps -f exited=x
ps -f health=nonsense
ps -f before=nobody
ps -f since=nobody
ps -f is-task=2
ps --=x
ps ---x
ps -- x
info x
system info x
version x
system df x
events x
images a b
image ls a b
image prune a
network ls x
volume ls x
volume prune x
network prune x
system prune x
container prune x
builder prune x
context ls x
context show x
login a b
logout a b
search
search a b
run
create
exec
exec nobody
start
stop
restart
kill
rm
rmi
image rm
pause
unpause
wait
logs
logs a b
top
port
port a b c
rename
rename a
rename a b c
commit
commit a b c
cp
cp a
cp a b c
diff
diff a b
export
export a b
import
import a b c
inspect
container inspect
image inspect
network inspect
volume inspect
context inspect nobody
tag
tag a
tag a b c
save
load x
history
history a b
attach
attach a b
update
update x
stats --nonsense
volume create a b
volume rm
network create
network create a b
network rm
network connect
network connect a
network connect a b c
network disconnect a
context create
context create a b
context rm
context use
context use a b
context update
context export
context import
context import a
pull
pull a b
push
push a b
manifest
manifest inspect
manifest create a
manifest rm
build
build a b
`,
  ),
  group(
    "help",
    `
--help
help
run --help
help run
container run --help
create --help
exec --help
ps --help
container ls --help
container --help
image --help
images --help
image ls --help
network --help
network create --help
volume --help
system --help
system df --help
context --help
builder --help
builder prune --help
inspect --help
logs --help
cp --help
login --help
search --help
version --help
info --help
stats --help
rm --help
container prune --help
build --help
update --help
commit --help
attach --help
volume create --help
`,
  ),
  group(
    "images",
    String.raw`
images
image ls
image list
images -q
images --no-trunc
images -q --no-trunc
images --digests
images --digests --format '{{.Repository}} {{.Digest}}'
images -a
images busybox
images nobody
images busybox:latest
images busybox:nope
images 'busy*'
images 'Bad:Ref:Too'
images --filter dangling=true
images --filter dangling=false
images --filter dangling=perhaps
images --filter label=org.example.kind
images --filter label=nope
images --filter reference='b*'
images --filter before=busybox
images --filter since=nobody
images --filter until=24h
images --filter until=nonsense
images --filter nonsense=1
images --format json
images --format '{{json .}}'
images --format table
images --format 'table {{.Repository}}\t{{.Tag}}\t{{.ID}}'
images --format 'table {{.Repository | upper}}\t{{.Size}}'
images --format 'table {{.CreatedSince}}|{{.CreatedAt}}|{{.Containers}}|{{.SharedSize}}|{{.UniqueSize}}|{{.VirtualSize}}'
images --format '{{.ID}}: {{.Repository}}'
images --format '{{.Nonsense}}'
images --format '{{.ID'
images --format '{{nonsense .ID}}'
images --format '{{upper .Repository}} {{lower .Tag}} {{title .Repository}}'
images --format '{{truncate .Repository 3}} {{truncate .Tag 30}}'
images --format '{{pad .Repository 2 3}}|'
images --format '{{println .Repository}}'
images --format '{{join (split .Repository "s") "-"}}'
images --format '{{split .Repository "s"}}'
images --format '{{printf "%q %10s|%-10s|" .Repository .Tag .Tag}}'
images --format '{{len .Repository}} {{index (split .Repository "u") 1}}'
images --format '{{if eq .Repository "busybox"}}yes{{else}}no{{end}}'
images --format '{{range (split .Repository "")}}{{.}}-{{end}}'
images --format '{{with .Tag}}[{{.}}]{{end}}'
images --format '{{$x := .Repository}}{{$x}}'
images --format '{{/* comment */}}{{.Repository}}'
images --format '{{- .Repository -}} x'
images --format '{{and .Repository .Tag}} {{or "" .Tag}} {{not .Tag}}'
images --format '{{html "<a>"}} {{js "a\"b"}} {{urlquery "a b"}}'
images --format '{{slice .Repository 1 3}}'
images --format '{{print .Repository 1 2 .Tag}}'
images --format '{{.Repository | printf "%s-%s" "x"}}'
images --format raw
images --format pretty
images --format ''
images --format 'table'
images --format 'table '
images --format 'table{{.ID}}'
images --format '\t{{.ID}}\n'
image inspect busybox
image inspect -f '{{.Id}}' busybox
image inspect -f '{{.Config.Cmd}} {{.RootFS.Type}} {{len .RootFS.Layers}}' busybox
image inspect -f '{{json .Config}}' busybox
image inspect -f '{{.Nonsense}}' busybox
image inspect -f '{{.Config.Nonsense}}' busybox
image inspect -f '{{.Created}} {{.Size}} {{.Architecture}} {{.Os}}' busybox
image inspect -f '{{range .RootFS.Layers}}{{println .}}{{end}}' busybox
image inspect -f '{{index .Config.Labels "org.example.kind"}}' busybox
image inspect -f '{{.Config.Labels}}' busybox
image inspect -f '{{.Config.Env}}' busybox
image inspect -f '{{' busybox
image inspect nobody
image inspect nobody busybox nobody2
image inspect -f '{{.Id}}' nobody busybox
image inspect --platform linux/amd64 -f '{{.Id}}' busybox
image inspect --platform nonsense busybox
image inspect 'Bad Ref'
history busybox
image history busybox
history --no-trunc busybox
history -q busybox
history -q --no-trunc busybox
history --human=false busybox
history -H=false busybox
history --format json busybox
history --format '{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}' busybox
history --format '{{.CreatedSince}} {{.CreatedAt}}' busybox
history --format 'table {{.ID}}\t{{.CreatedBy}}' busybox
history --format '{{.Nonsense}}' busybox
history --platform linux/amd64 -q busybox
history --platform nonsense busybox
history nobody
history ''
tag busybox @a:1
tag busybox @a:2
image tag busybox @a:1
tag busybox 'Bad:Ref'
tag busybox ''
tag busybox UPPER
tag busybox a:b:c
tag nobody @a:3
tag busybox sha256:0000000000000000000000000000000000000000000000000000000000000000
tag busybox 0000000000000000000000000000000000000000000000000000000000000000
images @a
images -q @a
images '@*'
images --filter reference=@a:1
images --filter reference='@a*' --format '{{.Repository}}:{{.Tag}}'
rmi @a:1
rmi @a:1
rmi -f @a:1
rmi --force @a:1 @a:2
rmi nobody
rmi -f nobody
rmi nobody nobody2
image rm nobody
rmi 'Bad:Ref:x'
rmi ''
tag busybox @b:1
tag busybox @b:2
image rm @b:1 nobody @b:2
image rm --no-prune nobody
image rm --platform linux/amd64 nobody
image rm --platform nonsense nobody
save
save nobody
save busybox
save -o W/@save.tar busybox
save -o W/@save2.tar busybox busybox:latest
save -o W/nodir/x busybox
save -o W busybox
save -o W/@x nobody
save --output W/@x busybox nobody
save --platform linux/amd64 -o W/@plat.tar busybox
save --platform linux/arm64 -o W/@plat.tar busybox
save --platform nonsense -o W/@plat.tar busybox
load -i W/@save.tar
load -q -i W/@save.tar
load --input W/@save.tar --quiet
load -i W/nobody.tar
load -i W/garbage
load <<< garbage
load <<< 
load -q <<< garbage
load --platform nonsense -i W/@save.tar
load -i W
import W/tree.tar @imp:1
import W/tree.tar
import -m 'a message' W/tree.tar @imp:2
import -c 'CMD ["a"]' -c 'ENV a=b' W/tree.tar @imp:3
import -c 'NONSENSE a' W/tree.tar @imp:4
import -c 'RUN a' W/tree.tar @imp:4
import --platform linux/arm64 W/tree.tar @imp:5
import --platform nonsense W/tree.tar @imp:6
import W/nobody.tar @imp:7
import W/garbage @imp:8
import W/tree.tar 'Bad:Ref'
import W/tree.tar a:b:c
import - @imp:9 <<< garbage
image inspect -f '{{.Comment}}|{{.Config.Cmd}}|{{.Config.Env}}|{{.Architecture}}' @imp:2 @imp:3 @imp:5
history @imp:2
images @imp:5
rmi @imp:1 @imp:2 @imp:3 @imp:5
image prune -f --filter label=nope
image prune -f --filter label=nope -a
image prune -a -f --filter until=1h --filter label=nope
image prune -f --filter nonsense=1
image prune -f --filter until=nonsense
image prune --filter label=nope <<< n\n
image prune -a --filter label=nope <<< y\n
image prune --filter label=nope <<< 
image prune -a --filter label=nope <<< yes\n
`,
  ),
  group(
    "create and run: what cannot be",
    `
run nobody/nothing:1
run --pull never nobody
create --pull never nobody
run --pull nonsense busybox
create --pull nonsense busybox
run --nonsense busybox
create --nonsense busybox
run -Z busybox
run 'Bad:Ref:x'
create 'Bad:Ref:x'
run UPPER
run ''
run --rm -p nonsense busybox
run --rm -p 80:80:80:80 busybox
run --rm -p 70000:80 busybox
run --rm -p 80:70000 busybox
run --rm -p 80-90:80-85 busybox
run --rm -p 80:80/nonsense busybox
run --rm -p 300.1.1.1:80:80 busybox
run --rm -p :80 busybox true
run --rm -p '' busybox true
run --rm --expose nonsense busybox
run --rm --expose 80-70 busybox
run --rm --expose 80/nonsense busybox
run --rm -v a:b:c:d busybox true
run --rm -v vol:b busybox true
run --rm -v :/a busybox true
run --rm -v vol: busybox true
run --rm -v / busybox true
run --rm -v vol:/b:nonsense busybox true
run --rm -v ../x:/b:ro,rw busybox true
run --rm --mount nonsense busybox
run --rm --mount type=bind,target=/a busybox
run --rm --mount type=bind,source=rel,target=/a busybox
run --rm --mount type=volume,source=a busybox
run --rm --mount type=volume,target=/a,nonsense=1 busybox
run --rm --mount type=volume,target=/a,readonly=perhaps busybox
run --rm --mount type=tmpfs,target=/a,tmpfs-size=x busybox
run --rm --mount type=tmpfs,target=/a,tmpfs-mode=x busybox
run --rm --mount type=bind,source=/tmp,target=/a,volume-nocopy busybox
run --rm --mount type=volume,target=/a,bind-propagation=shared busybox
run --rm --mount type=bind,source=/tmp,target=/a,bind-propagation=nonsense busybox
run --rm --mount '' busybox
run --rm --mount 'type=volume,"target' busybox
run --rm --tmpfs rel busybox true
run --rm -e =x busybox
run --rm -e '' busybox
run --rm --env-file W/nobody.env busybox
run --rm --env-file W/bad.env busybox
run --rm --env-file W/bad2.env busybox
run --rm --env-file W busybox
run --rm --env-file W/binary.env busybox
run --rm --label-file W/nobody busybox
run --rm --label-file W/bad.env busybox
run --rm -l =x busybox true
run --rm -l '' busybox true
run --rm --name 'bad name' busybox true
run --rm --name '' busybox true
run --rm --name .a busybox true
run --rm -m nonsense busybox
run --rm -m 1 busybox
run --rm -m -5 busybox
run --rm -m 1x busybox
run --rm --memory-swap 64m busybox true
run --rm --memory-swap nonsense busybox
run --rm --memory-swappiness 200 busybox
run --rm --memory-swappiness x busybox
run --rm --cpus nonsense busybox
run --rm --cpus 1000 busybox
run --rm --cpus 0.0000000001 busybox
run --rm --cpus 1 --cpu-quota 1000 busybox
run --rm -c x busybox
run --rm --cpu-period 1 busybox
run --rm --cpuset-cpus nonsense busybox
run --rm --cpuset-mems 999 busybox
run --rm --blkio-weight 5000 busybox
run --rm --blkio-weight x busybox
run --rm --blkio-weight-device nonsense busybox
run --rm --blkio-weight-device /dev/x:5 busybox
run --rm --device-read-bps nonsense busybox
run --rm --device-read-bps /dev/x:x busybox
run --rm --device-write-iops x:1 busybox
run --rm --device-write-iops /dev/x:-1 busybox
run --rm --device nonsense busybox true
run --rm --device /dev/null:/dev/x:nonsense busybox true
run --rm --device /dev/null:x busybox true
run --rm --device a:b:c:d busybox true
run --rm --device '' busybox true
run --rm --device-cgroup-rule nonsense busybox
run --rm --gpus nonsense busybox true
run --rm --gpus count=x busybox true
run --rm --gpus '"device=0' busybox true
run --rm --ulimit nonsense busybox
run --rm --ulimit nofile busybox
run --rm --ulimit nofile=5:3 busybox
run --rm --ulimit nofile=x busybox
run --rm --ulimit nonsense=5 busybox
run --rm --ulimit nofile=1:2:3 busybox
run --rm --sysctl nonsense busybox
run --rm --sysctl kernel.nonsense=1 busybox true
run --rm --sysctl net.nonsense=1 busybox true
run --rm --cap-add NONSENSE busybox true
run --rm --security-opt nonsense busybox true
run --rm --security-opt nonsense=1 busybox true
run --rm --security-opt seccomp=W/nobody busybox true
run --rm --security-opt seccomp=W/garbage busybox true
run --rm --security-opt apparmor busybox true
run --rm --security-opt no-new-privileges:nonsense busybox true
run --rm --ipc container: busybox
run --rm --pid nonsense busybox
run --rm --pid container: busybox
run --rm --uts nonsense busybox
run --rm --userns nonsense busybox
run --rm --cgroupns nonsense busybox
run --rm --network container: busybox
run --rm --network host --network none busybox true
run --rm --network none --network bridge busybox true
run --rm --network name=bridge,nonsense=1 busybox
run --rm --network name=bridge,ip=x busybox
run --rm --network alias=x busybox
run --rm --network '' busybox true
run --rm --ip 172.30.0.5 busybox true
run --rm --ip6 nonsense busybox true
run --rm --mac-address nonsense busybox
run --rm --network-alias x busybox true
run --rm --network none --network-alias x busybox true
run --rm --network host -p 80:80 busybox true
run --rm --network none -h x busybox true
run --rm --network host -h x busybox hostname
run --rm --network container:nobody -p 80:80 busybox
run --rm --network container:nobody --add-host a:1.1.1.1 busybox
run --rm --uts host -h x busybox true
run --rm --link a:b:c busybox
run --rm --link-local-ip nonsense busybox
run --rm --dns nonsense busybox
run --rm --dns-search 'a b' busybox
run --rm --dns-search -x busybox
run --rm --dns-option nonsense busybox true
run --rm --add-host nonsense busybox
run --rm --add-host a:nonsense busybox
run --rm --add-host a= busybox
run --rm -h 'bad host' busybox hostname
run --rm -h -bad busybox hostname
run --rm --domainname 'bad domain' busybox true
run --rm -u nobody-here busybox true
run --rm -u 1:nobody-here busybox true
run --rm -u '' busybox true
run --rm -w rel busybox true
run --rm -w '' busybox true
run --rm --group-add nobody-here busybox true
run --rm --restart nonsense busybox
run --rm --restart always busybox
run --restart on-failure:x busybox
run --restart on-failure:-1 busybox
run --restart on-failure:1:2 busybox
run --restart no:3 busybox
run --restart '' --rm busybox true
run --rm --stop-timeout x busybox
run --rm --shm-size nonsense busybox
run --rm --shm-size -1 busybox true
run --rm --shm-size 0 busybox true
run --rm --pids-limit x busybox
run --rm --oom-score-adj 5000 busybox
run --rm --oom-score-adj x busybox
run --rm --log-driver none --log-opt a=b busybox true
run --rm --log-opt nonsense=1 busybox true
run --rm --log-opt max-size=x busybox true
run --rm --storage-opt nonsense busybox
run --rm --storage-opt size=x busybox true
run --rm --storage-opt size=1 busybox true
run --rm --runtime nonsense busybox true
run --rm --platform nonsense busybox true
run --rm --platform linux/arm64 --pull never busybox true
run --rm --volume-driver nonsense -v @vd:/a busybox true
run --rm --volumes-from nobody busybox true
run --rm --volumes-from '' busybox true
run --rm --health-cmd x --no-healthcheck busybox
run --rm --health-interval x busybox
run --rm --health-interval -1s busybox
run --rm --health-interval 1us --health-cmd true busybox
run --rm --health-retries -1 --health-cmd true busybox
run --rm --health-retries x busybox
run --rm --health-timeout 10 busybox
run --rm --health-timeout -1s busybox
run --rm --health-start-period -1s --health-cmd true busybox
run --rm --health-start-interval -1s busybox
run --no-healthcheck --health-retries 3 busybox
run --rm -a nonsense busybox
run -d -a stdout busybox
run -d --rm --detach=perhaps busybox
run -it busybox true
run -t --rm busybox true <<< x
run -t -i --rm busybox true <<< x
run --rm --detach-keys nonsense-keys busybox true
run --rm --detach-keys ctrl-nonsense busybox true
run --rm --cidfile W/exists busybox true
run --rm --cidfile W/nodir/cid busybox true
create --cidfile W/exists busybox
run --rm --annotation nonsense busybox true
run --rm --annotation =x busybox true
run --rm --entrypoint nobody-here busybox
run --rm --entrypoint /etc busybox
run --rm busybox nobody-here
run --rm busybox /nobody-here
run --rm busybox /etc
run --rm busybox /etc/passwd
run --rm busybox ''
run --rm -w /etc/passwd busybox true
run --rm @scratch
run --rm --kernel-memory x busybox
run --rm --kernel-memory 64m busybox true
run --rm --cpu-rt-runtime 1000 busybox true
run --rm --privileged=perhaps busybox
run --rm --init=2 busybox
run --rm --read-only=yes busybox
create busybox --name
create --name
create -m
run --rm --oom-kill-disable busybox true
run --rm --disable-content-trust=false busybox true
`,
  ),
  group(
    "run: what is done",
    String.raw`
run --rm busybox echo hi
run --rm busybox sh -c 'echo out; echo err >&2; exit 3'
run --rm -i busybox cat <<< hello\n
run --rm -a stdout busybox sh -c 'echo out; echo err >&2'
run --rm -a stderr busybox sh -c 'echo out; echo err >&2'
run --rm -a stdin -a stdout -i busybox cat <<< hello\n
run --rm -t busybox echo hi
run --rm -e A=1 -e B=2 -e NOBODYHERE busybox sh -c 'env | sort | grep -v HOSTNAME'
run --rm --env-file W/good.env -e C=9 busybox sh -c 'env | sort | grep -v HOSTNAME'
run --rm --env C --env-file W/good.env busybox sh -c 'env | sort | grep -v HOSTNAME'
run --rm -h host1 busybox hostname
run --rm -h host1 --domainname dom busybox hostname -f
run --rm -u 5:6 busybox id
run --rm -u nobody busybox id
run --rm --group-add 7 --group-add nogroup busybox id -G
run --rm -w /srv/new busybox pwd
run --rm --entrypoint echo busybox a b
run --rm --entrypoint '' busybox echo c
run --rm --read-only busybox touch /x
run --rm --tmpfs /t:size=1m,mode=700 busybox sh -c 'df -k /t | tail -1; stat -c %a /t'
run --rm --shm-size 1m busybox sh -c 'df -k /dev/shm | tail -1'
run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n; ulimit -Hn'
run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward
run --rm --cap-drop all --cap-add net_raw busybox grep CapEff /proc/self/status
run --rm --privileged busybox grep CapEff /proc/self/status
run --rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status
run --rm --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status
run --rm --network none busybox sh -c 'ls /sys/class/net'
run --rm --network host busybox true
run --rm --dns 9.9.9.9 --dns-search a.b --dns-option ndots:3 busybox cat /etc/resolv.conf
run --rm --add-host a:1.2.3.4 --add-host b=::1 busybox sh -c 'tail -n 3 /etc/hosts | sort'
run --rm --add-host gate:host-gateway busybox grep -c gate /etc/hosts
run --rm -v W:/w:ro busybox touch /w/x
run --rm -v W:/w:ro busybox ls /w/good.env
run --rm --mount type=bind,src=W,dst=/w,ro busybox ls /w/good.env
run --rm --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 busybox stat -c %a /t
run --rm --mount type=volume,dst=/v busybox ls -d /v
run --rm -v @vol:/v busybox sh -c 'echo x > /v/f'
run --rm --mount type=volume,src=@vol,dst=/v,readonly busybox cat /v/f
run --rm -v @vol:/v:ro busybox touch /v/g
run --rm --init busybox cat /proc/1/comm
run --rm --pid host busybox sh -c 'test $$ -gt 1; echo $?'
run --rm --device /dev/null:/dev/other:rw busybox ls /dev/other
run --rm --device-cgroup-rule 'c 1:5 rwm' busybox true
run --rm -m 64m --memory-swap 64m busybox true
run --rm -m 64M --memory-reservation 32m --cpus .5 --pids-limit 50 --cpu-shares 100 busybox true
run --rm --oom-score-adj 100 busybox cat /proc/self/oom_score_adj
run --rm --log-driver none busybox echo hi
run --rm --label a=b --label c --label-file W/labels busybox true
run --rm --stop-signal SIGINT --stop-timeout 3 busybox true
run --rm --cidfile W/@cid busybox true
run --rm --cidfile W/@cid busybox true
run --rm -q --pull missing busybox true
run --rm --net none busybox true
run --rm --sig-proxy=false busybox echo hi
run --rm --detach-keys ctrl-x,a busybox echo hi
run --rm --platform linux/amd64 busybox echo hi
run -d --name @run busybox sleep 1000
run -d --name @run busybox sleep 1000
run --name @run busybox
create --name @run busybox
run -d --rm busybox true
run --name @exit3 busybox sh -c 'exit 3'
run --name @segv busybox sh -c 'kill -SEGV $$'
run --name @kill busybox sh -c 'kill -KILL $$'
run --rm --name @oom -m 8m --memory-swap 8m busybox sh -c 'x=x; while true; do x=$x$x; done'
inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}' @exit3 @segv @kill
rm @exit3 @segv @kill
run --name @bad busybox nobody-here
inspect -f '{{.State.ExitCode}} {{.State.Status}} {{.State.Error}}' @bad
rm @bad
rm -f @run
volume rm @vol
`,
  ),
  group(
    "containers: lists",
    String.raw`
create --name @c1 --label side=@s busybox sleep 1000
create --name @c2 --label side=@s --label b=2 --entrypoint sh busybox -c 'sleep 1000; echo a very long command line indeed'
run -d --name @c3 --label side=@s -p 127.0.0.1::81 -p 127.0.0.1::82/udp busybox sleep 1000
run -d --name @c4 --label side=@s -v @lv:/data --mount type=bind,source=/etc,target=/e --network none busybox sleep 1000
run --name @c5 --label side=@s busybox sh -c 'exit 4'
ps --filter label=side=@s
ps -a --filter label=side=@s
ps -aq --filter label=nobody
ps -a --filter label=nobody
ps -q --no-trunc --filter name=@c3
ps --no-trunc -a --filter label=side=@s
ps -as --filter label=side=@s
ps -n 2 --filter label=side=@s
ps -l --filter label=side=@s
ps -n -1 --filter label=side=@s
ps -n 0 --filter label=side=@s
ps --last 3 --filter label=side=@s --format '{{.Names}}'
ps -a --filter status=created --filter label=side=@s
ps -a --filter status=exited --filter label=side=@s --format '{{.Names}} {{.Status}}'
ps -a --filter exited=4 --filter label=side=@s --format '{{.Names}}'
ps -a --filter ancestor=busybox --filter label=side=@s --format '{{.Names}}'
ps -a --filter ancestor=nobody --filter label=side=@s
ps -a --filter volume=@lv --format '{{.Names}}'
ps -a --filter volume=/data --filter label=side=@s --format '{{.Names}}'
ps -a --filter network=none --filter label=side=@s --format '{{.Names}}'
ps -a --filter network=nobody --filter label=side=@s --format '{{.Names}}'
ps -a --filter publish=81 --filter label=side=@s --format '{{.Names}}'
ps -a --filter expose=82/udp --filter label=side=@s --format '{{.Names}}'
ps -a --filter expose=x
ps -a --filter before=@c3 --filter label=side=@s --format '{{.Names}}'
ps -a --filter since=@c3 --filter label=side=@s --format '{{.Names}}'
ps -a --filter name=^/@c1$ --format '{{.Names}}'
ps -a --filter name='[' 
ps -a --filter id=nope
ps -a --filter health=none --filter label=side=@s --format '{{.Names}}'
ps --format json --filter name=@c3
ps --format '{{json .}}' --filter name=@c4
ps --format table --filter name=@c4
ps --format 'table {{.Names}}\t{{.Status}}\t{{.Ports}}' --filter label=side=@s
ps --format 'table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.CreatedAt}}\t{{.Mounts}}\t{{.Networks}}\t{{.LocalVolumes}}\t{{.State}}\t{{.Size}}\t{{.Labels}}\t{{.Platform}}' --filter label=side=@s -a
ps --format '{{.Label "side"}} {{.Label "nope"}}' --filter name=@c3
ps --format 'table {{.Names}}\t{{.Label "side"}}' --filter name=@c3
ps --format '{{.Mounts}}' --no-trunc --filter name=@c4
ps --format '{{.Size}}' --filter name=@c4
ps --format '{{.Names}} {{.Size}}' -s --filter name=@c4
ps --format '{{.Nonsense}}' --filter name=@c4
ps --format '{{.Names' --filter name=@c4
ps --format '{{upper .Names}}{{pad .State 1 1}}{{truncate .Image 4}}' --filter name=@c4
ps --format '{{range $i, $p := split .Image "s"}}{{$i}}={{$p}} {{end}}' --filter name=@c4
ps -q --format '{{.Names}}' --filter name=@c4
ps -q --format json --filter name=@c4
ps --format 'json ' --filter name=@c4
ps --format nonsense --filter name=@c4
ps --format 'table {{.Names}} is {{.State}}' --filter name=@c4
ps --format 'table {{json .Names}}' --filter name=@c4
ps --format 'table {{upper .Names}}\t{{lower .Image}}' --filter name=@c4
ps --format '{{.Command}}' --no-trunc -a --filter name=@c2
ps --format '{{ printf "%d" (len .Names) }}' --filter name=@c4
ps --format '{{title .State}} {{len (split .Names "-")}}' --filter name=@c4
container ls --filter name=@c4 --format '{{.Names}}'
container list --filter name=@c4 --format '{{.Names}}'
container ps --filter name=@c4 --format '{{.Names}}'
ps --filter name=@c4 --filter name=@c3 --format '{{.Names}}'
ps --filter label=side=@s --filter status=running --filter status=created --format '{{.Names}}'
ps -f name=@c4 -a -q -n 1 -s
port @c3
port @c3 81
port @c3 81/tcp
port @c3 82/udp
port @c3 99
port @c3 x
port @c3 81/nonsense
port @c1
port nobody
port @c4
container port @c3 81
top @c3
top @c3 -o pid,comm
top @c3 -o nonsense
top @c3 aux
top @c1
top nobody
container top @c4 -eo pid,args
stats --no-stream @c3
stats --no-stream --no-trunc @c3
stats --no-stream --format json @c3
stats --no-stream --format '{{.Name}} {{.PIDs}}' @c3
stats --no-stream --format 'table {{.Name}}\t{{.PIDs}}' @c3
stats --no-stream --format '{{.Nonsense}}' @c3
stats --no-stream @c1
stats --no-stream nobody
stats --no-stream @c3 nobody
stats --no-stream -a x
diff @c4
diff nobody
container diff @c1
diff @c5
inspect -f '{{.Name}}' @c1 @c2
inspect -f '{{.State.Status}}' @c1 nobody @c3
inspect nobody
inspect --type container nobody
inspect --type nonsense @c1
inspect --type image @c1
inspect --type volume @lv
inspect --type network none
inspect --type network nobody
inspect --type volume nobody
inspect --type image nobody
inspect --type plugin nobody
inspect --type node nobody
inspect --type secret nobody
inspect --type '' @c1
inspect --type=container -f '{{.Name}}' @c1
inspect -s -f '{{.SizeRw}} {{.SizeRootFs}}' @c4
inspect -f '{{.SizeRw}}' @c4
inspect -s --type image busybox
inspect @c1
inspect -s @c4
inspect @c3 @c5
container inspect @c1
container inspect -s -f '{{.SizeRw}}' @c1
container inspect nobody
container inspect busybox
inspect busybox
inspect -f '{{json .}}' none
inspect -f '{{json .NetworkSettings.Ports}}' @c3
inspect -f '{{(index (index .NetworkSettings.Ports "81/tcp") 0).HostPort}}' @c3
inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}' @c3
inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}} {{end}}' @c4
inspect -f '{{.Nonsense}}' @c1
inspect -f '{{.State.Nonsense}}' @c1
inspect -f '{{.Config.Labels.side}}' @c1
inspect -f '{{.Config.Labels.nope}}' @c1
inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.Binds}}' @c4
inspect -f '{{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy}}' @c4
inspect -f '{{.Config.Cmd}} {{.Args}} {{.Path}}' @c2
inspect -f '{{json .Config.ExposedPorts}} {{.Config.ExposedPorts}}' @c3
inspect -f '{{.State}}' @c1
inspect -f '{{.GraphDriver.Name}}' @c1
inspect -f '{{.Created}} {{.State.StartedAt}}' @c1
inspect -f '{{if .State.Running}}up{{else}}down{{end}}' @c1
inspect -f '{{nonsense}}' @c1
inspect -f '{{.State.Pid | printf "%05d"}}' @c1
inspect -f json @c1
inspect -f 'table {{.Name}}' @c1
inspect -f '' @c1
inspect -f '{{println .Name}}' @c1 @c2
inspect -f '{{index .Config.Env 0}} {{index .Config.Env 99}}' @c1
inspect -f '{{.Name | upper | printf "%q"}}' @c1
inspect -f '{{len .Mounts}} {{eq (len .Mounts) 2}} {{gt (len .Mounts) 5}} {{ne .Name "x"}}' @c4
inspect -f '{{join .Config.Cmd " "}} {{join .Config.Env ";"}}' @c4
inspect -f '{{.HostConfig.LogConfig.Type}} {{.HostConfig.NetworkMode}} {{.HostConfig.ShmSize}}' @c4
inspect -f '{{call .Name}}' @c1
inspect -f '{{template "x"}}' @c1
inspect -f '{{define "x"}}[{{.}}]{{end}}{{template "x" .Name}}' @c1
inspect -f '{{block "x" .Name}}<{{.}}>{{end}}' @c1
inspect -f '{{range $i, $e := .Config.Env}}{{if $i}}, {{end}}{{$e}}{{end}}' @c1
inspect -f '{{range .Mounts}}{{else}}none{{end}}' @c1
inspect -f '{{with .Nope}}x{{end}}' @c1
inspect -f '{{end}}' @c1
inspect -f '{{if}}' @c1
inspect -f '{{range .Name}}x{{end}}' @c1
inspect -f '{{.Name.First}}' @c1
inspect -f '{{"a" | title}} {{"A B" | lower}} {{true}} {{nil}}' @c1
inspect -f '{{printf "%v %d %t %x %s" .Name 5 true 255 "q"}}' @c1
inspect -f '{{lt 1 2}} {{le 2 2}} {{ge 1 2}} {{eq 1 1 2}}' @c1
inspect -f '{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}' @c2
run -d --name @c6 -P --expose 83 busybox sleep 1000
port @c6
rm -f @c1 @c2 @c3 @c4 @c5 @c6
volume rm @lv
`,
  ),
  group(
    "containers: work",
    String.raw`
create --name @w1 busybox sh -c 'echo one; sleep 0.5; echo two >&2; sleep 0.5; echo three; sleep 1000'
start @w1
exec @w1 sleep 2
start @w1
start nobody
start @w1 nobody
start -a nobody
start -a @w1 nobody
start -ai nobody @w1
container start @w1
logs @w1
logs --tail 1 @w1
logs -n 2 @w1
logs --tail all @w1
logs --tail x @w1
logs --tail -1 @w1
logs --tail 0 @w1
logs -t --tail 1 @w1
logs --timestamps=perhaps @w1
logs --details @w1
logs --since 1h @w1
logs --since 0s @w1
logs --until 1h @w1
logs --since nonsense @w1
logs --until nonsense @w1
logs --since 2030-01-01 @w1
logs --since 2030-01-01T00:00:00 --until 2031-01-01T00:00:00Z @w1
logs --since 1.5 @w1
logs nobody
container logs @w1
exec @w1 echo hi
exec @w1 sh -c 'echo out; echo err >&2; exit 7'
exec -i @w1 cat <<< hello\n
exec @w1 cat <<< hello\n
exec -t @w1 echo hi
exec -it @w1 echo hi
exec -it @w1 echo hi <<< x
exec -d @w1 true
exec -d @w1 nobody-here
exec -e A=1 -e B @w1 sh -c 'echo $A$B'
exec --env-file W/good.env @w1 sh -c 'echo $C'
exec --env-file W/nobody @w1 true
exec --env-file W/bad.env @w1 true
exec -e =x @w1 true
exec -u 5:6 @w1 id
exec -u nobody-here @w1 id
exec -w /etc @w1 pwd
exec -w /nobody-here @w1 pwd
exec -w rel @w1 pwd
exec --privileged @w1 grep CapEff /proc/self/status
exec @w1 nobody-here
exec @w1 /etc
exec @w1 /etc/passwd
exec @w1 ''
exec nobody true
exec --nonsense @w1 true
exec @w1
exec --detach-keys nonsense-keys @w1 true
container exec @w1 true
pause @w1
pause @w1
exec @w1 true
stats --no-stream --format '{{.Name}}' @w1
ps --filter name=@w1 --format '{{.State}}'
attach @w1
kill @w1
unpause @w1
start @w1
pause @w1
unpause @w1
unpause @w1
pause nobody
unpause nobody
pause @w1 nobody
unpause @w1 nobody
rename @w1 @w2
rename @w2 @w2
rename nobody @w3
rename @w2 'bad name'
rename @w2 ''
create --name @w3 busybox
rename @w2 @w3
rename @w2 @w1
pause @w3
unpause @w3
exec @w3 true
attach @w3
attach nobody
attach --detach-keys nonsense-keys @w1
kill @w3
kill nobody
kill -s NONSENSE @w1
kill -s '' @w1
kill -s 99 @w1
kill -s 0 @w1
kill -s SIGNONE @w1
kill -s hup nobody @w1
kill -s TERM @w3 nobody
update -m 64m --memory-swap 128m @w1
update -m 1 @w1
update -m nonsense @w1
update --cpus .5 @w1
update --cpus nonsense @w1
update --restart always @w1
update --restart nonsense @w1
update --restart no @w1
update --pids-limit 100 @w1
update --cpuset-cpus 999 @w1
update --cpu-shares 512 @w1 nobody
update --cpu-shares 512 nobody
update @w1
update --blkio-weight 5 @w1
update --kernel-memory 64m @w1
container update --cpu-period 100000 --cpu-quota 50000 @w3
inspect -f '{{.HostConfig.Memory}} {{.HostConfig.CpuShares}} {{.HostConfig.PidsLimit}} {{.HostConfig.NanoCpus}}' @w1
exec @w1 sh -c 'echo new > /tmp/new; rm /etc/lower-file; mkdir /newdir'
diff @w1
container diff @w1
commit @w1 @img:1
commit -a me -m 'a message' -c 'CMD ["x"]' -c 'LABEL a=b' @w1 @img:2
commit -p=false @w1 @img:3
commit --pause=false @w1
commit -c 'NONSENSE x' @w1 @img:4
commit -c 'RUN x' @w1 @img:4
commit nobody @img:5
commit @w1 'Bad:Ref'
commit @w1 a:b:c
commit @w1 ''
image inspect -f '{{.Author}}|{{.Comment}}|{{.Config.Cmd}}|{{.Config.Labels.a}}' @img:2
history --format '{{.CreatedBy}}|{{.Comment}}' @img:2
rmi @img:1 @img:2 @img:3
export @w1
export -o W/@export.tar @w1
export -o W/nodir/x @w1
export -o W @w1
export nobody
export -o W/@export2.tar nobody
container export --output W/@export3.tar @w1
cp @w1:/etc/passwd W/@passwd
cp @w1:/etc/nobody W/@x
cp W/nobody @w1:/tmp/
cp W/good.env @w1:/tmp/
cp W/good.env @w1:/nodir/x
cp W/good.env @w1:/nodir/
cp -q W/good.env @w1:/tmp/
cp W/good.env W/bad.env
cp @w1:/a @w1:/b
cp nobody:/a W/@x
cp W/good.env nobody:/a
cp @w1:/etc W/good.env
cp W/ctx @w1:/etc/passwd
cp @w1:/etc/passwd W/nodir/x
cp - @w1:/tmp <<< garbage
cp - @w1:/tmp
cp @w1:/etc/passwd -
cp - - <<< x
cp '' @w1:/tmp
cp @w1: W/@x
cp W/good.env @w1:
cp -L W/link @w1:/tmp/
cp -a W/good.env @w1:/tmp/
cp --follow-link W/link @w1:/tmp/link2
container cp @w1:/etc/passwd W/@passwd2
stop -t 0 @w1
stop @w1
stop nobody
stop -t x @w1
stop -t 0 @w1 nobody
stop --time 0 @w1
stop --timeout 0 @w1
stop -s NONSENSE @w1
stop -s KILL @w1
wait @w1
wait nobody
wait @w1 nobody
wait @w3 nobody
start @w1
restart -t 0 @w1
restart nobody
restart -t x @w1
restart -s KILL -t 1 @w1
restart -t 0 @w1 nobody
restart --time 0 @w3
kill @w1
wait @w1
kill @w1
ps -a --filter name=@w1 --format '{{.Status}}'
exec @w1 true
logs --tail 1 @w1
attach @w1
top @w1
pause @w1
rm nobody
rm -f nobody
rm @w1 nobody
rm -f @w3
create --name @r1 -v /anon busybox
rm -v @r1
run -d --name @r2 busybox sleep 1000
rm @r2
rm -l @r2
rm --link nobody/x
rm -f @r2 nobody
container rm nobody
container remove nobody
create --name @p1 --label prune=@s busybox
create --name @p2 --label prune=@s busybox
container prune -f --filter label=prune=@nope
container prune -f --filter label=prune=@s
container prune -f --filter until=nonsense
container prune -f --filter nonsense=1
container prune --filter label=prune=@s <<< n\n
container prune --filter label=prune=@s <<< y\n
container prune --filter label=prune=@s
`,
  ),
  group(
    "start -a, run -d and their ends",
    String.raw`
create --name @s1 busybox sh -c 'echo out; echo err >&2; exit 5'
start -a @s1
start -a @s1
start @s1
wait @s1
start -ai @s1 <<< x
start --attach --sig-proxy=false @s1
start --detach-keys nonsense-keys @s1
logs @s1
create -i --name @s2 busybox cat
start -ai @s2 <<< hello\n
start -i @s2 <<< hello\n
rm @s1 @s2
create --name @s3 busybox nobody-here
start @s3
start -a @s3
ps -a --filter name=@s3 --format '{{.Status}}'
rm @s3
`,
  ),
  group(
    "networks",
    String.raw`
network ls
network list
network ls -q --filter name=none
network ls --no-trunc
network ls --filter driver=bridge
network ls --filter driver=nobody
network ls --filter type=custom
network ls --filter type=builtin
network ls --filter type=nonsense
network ls --filter dangling=perhaps
network ls --filter nonsense=1
network ls --filter scope=local --format '{{.Name}}'
network ls --filter name=nobody
network ls --filter id=nobody
network ls --format json
network ls --format '{{json .}}' --filter name=none
network ls --format 'table {{.Name}}\t{{.Driver}}\t{{.Scope}}\t{{.IPv4}}\t{{.IPv6}}\t{{.Internal}}\t{{.Labels}}\t{{.CreatedAt}}'
network ls --format '{{.ID}} {{.Name}}'
network ls --format '{{.Label "x"}}' --filter name=none
network ls --format '{{.Nonsense}}'
network create @n1
network create @n1
network create --label side=@s --subnet 10.211.S.0/25 --gateway 10.211.S.1 --ip-range 10.211.S.64/26 --aux-address a=10.211.S.5 @n2
network create --subnet nonsense @n3
network create --subnet 10.0.0.0/33 @n3
network create --gateway 10.1.1.1 @n3
network create --gateway nonsense --subnet 10.212.S.0/24 @n3
network create --gateway 10.99.0.1 --subnet 10.212.S.0/24 @n3
network create --ip-range 10.99.0.0/24 --subnet 10.212.S.0/24 @n3
network create --aux-address a=10.99.0.1 --subnet 10.212.S.0/24 @n3
network create --aux-address nonsense --subnet 10.212.S.0/24 @n3
network create --subnet 10.212.S.0/24 --subnet 10.212.S.0/25 @n3
network create --subnet 10.211.S.0/24 @n3
network create -d nonsense @n3
network create -d host @n3
network create -d none @n3
network create --driver '' @n3
network create --opt nonsense @n3
network create --opt com.docker.network.driver.mtu=x @n3
network create --ipam-driver nonsense @n3
network create --ipam-opt nonsense @n3
network create --scope nonsense @n3
network create --label '' @n3
network create --ipv6=perhaps @n3
network create 'bad name'
network create ''
network create host
network create bridge
network create --internal --attachable=false @n4
network inspect -f '{{.Name}} {{.Driver}} {{.Internal}} {{.EnableIPv6}} {{.Scope}} {{.Labels}}' @n2 @n4
network inspect -f '{{json .IPAM}}' @n2
network inspect none
network inspect -v none
network inspect nobody
network inspect none nobody
network inspect -f '{{.Name}}' none nobody host
network inspect -f '{{.Nonsense}}' none
network inspect @n2
network ls --filter label=side=@s
network ls --filter label=side=@s --format '{{.Labels}} {{.Label "side"}}'
run -d --name @nc --network @n2 --network-alias al busybox sleep 1000
network connect @n1 @nc
network connect @n1 @nc
network connect nobody @nc
network connect @n1 nobody
network connect --ip nonsense @n4 @nc
network connect --ip 10.99.99.99 @n4 @nc
network connect --alias x --driver-opt a=b --link-local-ip 169.254.1.2 @n4 @nc
network connect --link nobody:x @n4 @nc
network connect --gw-priority x @n4 @nc
network connect host @nc
network connect none @nc
network connect --ip 10.211.S.70 @n2 @nc
network disconnect @n1 @nc
network disconnect @n1 @nc
network disconnect -f @n1 nobody
network disconnect @n1 nobody
network disconnect nobody @nc
network disconnect -f @n1 @nc
inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}} {{$v.Aliases}} {{end}}' @nc
network rm @n2
network rm @n2 nobody
network rm nobody
network rm -f nobody
network rm host
network rm bridge
network rm none
run --rm --network @n2 --ip 10.211.S.5 busybox true
run --rm --network @n2 --ip 10.99.1.1 busybox true
run --rm --network @n1 --ip 10.211.S.9 busybox true
run --rm --network @n2 --ip 10.211.S.70 busybox ip -4 -o addr show eth0
run --rm --network name=@n2,alias=x,ip=10.211.S.71 busybox ip -4 -o addr show eth0
run --rm --network @n1 --network @n2 busybox true
run --rm --network @n1 --network @n1 busybox true
rm -f @nc
network rm @n1 @n2 @n4
network remove nobody
network create --label prune=@s @np
network prune -f --filter label=prune=@nope
network prune -f --filter label=prune=@s
network prune --filter nonsense=1 -f
network prune --filter until=nonsense -f
network prune --filter label=prune=@s <<< n\n
network prune --filter label=prune=@s <<< y\n
`,
  ),
  group(
    "volumes",
    String.raw`
volume ls --filter name=nobody
volume list -q --filter name=nobody
volume create @v1
volume create @v1
volume create --name @v1
volume create --name @v1 @v2
volume create -d nonsense @v2
volume create --label side=@s @v2
volume create -o type=tmpfs -o device=tmpfs -o o=size=1m @v3
volume create -o nonsense=1 @v4
volume create -o nonsense @v4
volume create -o type=nonsense @v4
volume create 'bad name'
volume create ''
volume create a
volume create --label '' @v5
volume ls --filter name=@v
volume ls -q --filter name=@v
volume ls --filter label=side=@s
volume ls --filter driver=local -q --filter name=@v1
volume ls --filter driver=nobody
volume ls --filter dangling=true --filter name=@v -q
volume ls --filter dangling=perhaps
volume ls --filter nonsense=1
volume ls --format json --filter name=@v2
volume ls --format '{{json .}}' --filter name=@v1
volume ls --format 'table {{.Name}}\t{{.Driver}}\t{{.Scope}}\t{{.Labels}}\t{{.Mountpoint}}\t{{.Links}}\t{{.Size}}\t{{.Availability}}\t{{.Group}}\t{{.Status}}' --filter name=@v2
volume ls --format '{{.Name}} {{.Label "side"}}' --filter name=@v
volume ls --format '{{.Nonsense}}' --filter name=@v
volume ls --cluster
volume inspect @v1
volume inspect @v1 nobody
volume inspect nobody
volume inspect -f '{{.Name}} {{.Driver}} {{.Labels}} {{.Options}} {{.Scope}}' @v1 @v2 @v3
volume inspect -f '{{json .Options}} {{json .Labels}}' @v1 @v3
volume inspect -f '{{.Nonsense}}' @v1
volume inspect --format '{{' @v1
run -d --name @vc -v @v1:/v busybox sleep 1000
volume rm @v1
volume rm -f @v1
volume rm nobody
volume rm -f nobody
volume rm @v2 nobody @v3
rm -f @vc
volume rm @v1
volume remove nobody
volume rm @v4
volume create --label prune=@s @vp
volume prune -f --filter label=prune=@nope
volume prune -f --filter label=prune=@s
volume prune -a -f --filter label=prune=@s
volume prune -f --filter nonsense=1
volume prune -af --filter all=1
volume prune --filter label=prune=@s <<< n\n
volume prune --filter label=prune=@s <<< y\n
volume prune -a --filter label=prune=@s <<< y\n
volume prune --filter label=prune=@s <<< 
volume update nobody
`,
  ),
  group(
    "system",
    String.raw`
version
version -f '{{.Server.Version}} {{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}}/{{.Server.Arch}}'
version -f '{{.Server.Components}}'
version -f '{{json .Server}}'
version -f '{{.Client.Os}} {{.Client.Arch}} {{.Client.Context}} {{.Client.DefaultAPIVersion}}'
version -f '{{.Nonsense}}'
version -f '{{.Client.Nonsense}}'
version -f '{{'
version --format json
--version
-v
info
system info
info -f '{{.ServerVersion}} {{.Driver}} {{.Containers}}'
info -f '{{json .}}'
info --format json
info -f '{{.Nonsense}}'
info -f '{{.ClientInfo.Context}} {{.ClientInfo.Debug}}'
info -f '{{range .SecurityOptions}}{{println .}}{{end}}'
info -f '{{.Plugins.Volume}} {{.CgroupVersion}}'
info -f '{{'
system df
system df -v
system df --format json
system df --format '{{json .}}'
system df --format '{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}'
system df --format 'table {{.Type}}\t{{.Reclaimable}}'
system df --format '{{.Nonsense}}'
system df -v --format json
system df -v --format '{{json .}}'
system df -v --format '{{range .Images}}{{.Repository}} {{.Size}}{{end}}'
system df -v --format 'table {{.Type}}'
events --since 1h --until 0s --filter container=nobody
events --since nonsense --until 0s
events --since 0s --until nonsense
events --until nonsense
events --filter nonsense --until 0s
events --filter nonsense=1 --since 1h --until 0s
events --filter type=nonsense --since 1h --until 0s
events --format '{{' --until 0s
events --since 10m --until 0s --filter volume=nobody
volume create @ev
events --since 10m --until -1s --filter volume=@ev
events --since 10m --until -1s --filter volume=@ev --format json
events --since 10m --until -1s --filter volume=@ev --format '{{json .}}'
events --since 10m --until -1s --filter volume=@ev --format '{{.Type}} {{.Action}} {{.Actor.Attributes.driver}} {{.Status}}'
events --since 10m --until -1s --filter volume=@ev --format '{{.Nonsense}}'
events --since 10m --until -1s --filter volume=@ev --filter event=destroy
create --name @evc --label a=b busybox true
rename @evc @evd
rm @evd
events --since 10m --until -1s --filter container=@evd
system events --since 10m --until -1s --filter container=@evc --format '{{.Action}} {{.Actor.Attributes.name}}'
volume rm @ev
system prune -f --filter label=prune=@s
system prune -af --filter label=prune=@s
system prune -f --volumes --filter label=prune=@s
system prune -f --filter nonsense=1
system prune -f --filter until=nonsense
system prune -f --volumes --filter until=1h
system prune --filter label=prune=@s <<< n\n
system prune -a --filter label=prune=@s <<< y\n
system prune --volumes --filter label=prune=@s <<< n\n
system prune -a --volumes --filter label=prune=@s <<< n\n
system prune <<< n\n
system prune -a <<< n\n
system prune --filter until=1h <<< n\n
container prune <<< n\n
image prune <<< n\n
image prune -a <<< n\n
volume prune <<< n\n
volume prune -a <<< n\n
network prune <<< n\n
builder prune <<< n\n
builder prune -a <<< n\n
builder prune -f --filter nonsense=1
builder prune -f --keep-storage x
builder prune -f --filter until=1h
builder nonsense
`,
  ),
  group(
    "contexts",
    `
context ls
context list
context ls -q
context ls --format json
context ls --format '{{.Name}} {{.Current}} {{.Description}}'
context ls --format '{{.Nonsense}}'
context show
context inspect
context inspect default
context inspect nobody
context inspect default nobody
context inspect -f '{{.Name}} {{.Endpoints.docker.Host}}' default
context inspect -f '{{.Nonsense}}' default
context create @x --docker host=unix:///nowhere --description 'a description'
context create @x --docker host=unix:///nowhere
context create @y --docker nonsense
context create @y --docker host=nonsense
context create @y --docker nonsense=1
context create @y --docker host=tcp://a,ca=W/nobody
context create @y --from nobody
context create @y --from @x
context create default
context create 'bad name'
context create ''
context create @z
context ls
context ls --format '{{json .}}'
context ls -q
context inspect @x
context inspect -f '{{json .Endpoints}}' @x @y
context update @x --description other
context update nobody --description other
context update default --description other
context update @x --docker host=nonsense
context update @x --docker nonsense
context update @x
context export @x W/@ctx.tar
context export @x W/@ctx.tar
context export nobody W/@ctx2.tar
context export @x -
context import @imp W/@ctx.tar
context import @imp W/@ctx.tar
context import @imp2 W/nobody
context import @imp2 W/garbage
context import @imp2 - <<< garbage
context import default W/@ctx.tar
context use nobody
context use default
context use @x
context ls
context use default
context rm nobody
context rm -f nobody
context rm @x @y
context rm @x nobody
context rm @imp @z
context rm default
context remove nobody
`,
  ),
  group(
    "registries, builds",
    String.raw`
login -u a 127.0.0.1:1
login -p b 127.0.0.1:1
login -u a -p b 127.0.0.1:1
login -u a --password-stdin 127.0.0.1:1 <<< b
login --password-stdin 127.0.0.1:1 <<< b
login -u a -p b --password-stdin 127.0.0.1:1 <<< b
login -u '' -p b 127.0.0.1:1
login -u a -p '' 127.0.0.1:1
login -u a --password-stdin 127.0.0.1:1 <<< 
login 127.0.0.1:1
logout 127.0.0.1:1
logout nobody.example
pull 127.0.0.1:1/a
pull -q 127.0.0.1:1/a
pull -a 127.0.0.1:1/a
pull -a 127.0.0.1:1/a:tag
pull 'Bad:Ref:x'
pull UPPER
pull ''
pull a@sha256:0000
pull --platform nonsense 127.0.0.1:1/a
image pull 127.0.0.1:1/a
push nobody
push 127.0.0.1:1/nobody
push -a 127.0.0.1:1/nobody
push -a 127.0.0.1:1/nobody:tag
push -q 127.0.0.1:1/nobody
push 'Bad:Ref:x'
push --platform nonsense 127.0.0.1:1/nobody
tag busybox 127.0.0.1:1/@t
push 127.0.0.1:1/@t
push -q 127.0.0.1:1/@t
image push 127.0.0.1:1/@t
rmi 127.0.0.1:1/@t
search 127.0.0.1:1/a
search --limit 200 a
search --limit 0 127.0.0.1:1/a
search --limit x a
search --filter nonsense 127.0.0.1:1/a
search --filter nonsense=1 127.0.0.1:1/a
search --filter stars=x 127.0.0.1:1/a
search --filter is-official=perhaps 127.0.0.1:1/a
search ''
search --format '{{' 127.0.0.1:1/a
manifest inspect 127.0.0.1:1/a
manifest inspect --insecure 127.0.0.1:1/a
manifest inspect 'Bad:Ref:x'
manifest create 127.0.0.1:1/a
manifest create 127.0.0.1:1/l 127.0.0.1:1/a
manifest annotate 127.0.0.1:1/l 127.0.0.1:1/a
manifest push 127.0.0.1:1/l
manifest rm 127.0.0.1:1/l
build W/ctx -t 'Bad:Ref:x'
build W/nodir
build W/ctx -f W/ctx/nobody
build -q --label s=@s W/ctx
build -q -t @b:1 --label s=@s W/ctx
build -q --build-arg nonsense --label s=@s W/ctx
build -q --label a=@b -t @b:2 W/ctx
build -q --iidfile W/@iid --label s=@s W/ctx
build -q --target nobody W/ctx
build -q --label s=@s - <<< FROM busybox\n
build -q - <<< FROM nobody-here:x\n
build -q - <<< NONSENSE\n
build -q - <<< 
build -q --nonsense W/ctx
build --memory x W/ctx
build --network nobody-here -q --label s=@s W/ctx
build -q --pull=perhaps W/ctx
image build -q --label s=@s W/ctx
builder build -q --label s=@s W/ctx
rmi @b:1 @b:2
`,
  ),
];

const named = (name: string): Group => groups.find((one) => one.name === name)!; // of the list above

/** What does not meet runs at the same time. */
export const rounds: readonly (readonly Group[])[] = [
  ["images", "the program", "create and run: what cannot be"],
  ["containers: lists", "help", "contexts"],
  ["containers: work", "networks", "volumes"],
  ["run: what is done", "start -a, run -d and their ends"],
  ["system"],
  ["registries, builds"],
].map((names) => names.map(named));
