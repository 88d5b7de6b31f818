import contextlib
from .test_paid_once import task_of, watched, Refuse, bill
from .test_paid_once import args


def test_dbg(vertex, args):
    task = task_of(args, pace="")
    task.run()
    task.clear()
    r = Refuse(lambda call: call.reads_input)

    class W:
        def before(self, call):
            x = r.before(call)
            print("CALL", call.method, call.url[:170], x)
            return x

        def after(self, call):
            pass

    with watched(W()):
        print("CALL name", task.run())
    print("CALL bill", [str(b) for b in bill(vertex)])
