work-none-title = 没有等待的任务
work-none-done = 您已提交 { $n } 个任务，谢谢。
work-none-help = 训练操作员生成新的回答或管理员创建任务后，任务会出现在这里。
work-next-title = 有任务在等待
work-next-waiting = 有 { $n } 个任务等待您处理。
work-next-start = 开始下一个任务
