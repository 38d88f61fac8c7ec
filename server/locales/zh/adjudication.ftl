adjudication-title = 裁定
adjudication-about = 标注员意见相反的任务，分歧最大者在前：即一位标注员认为甲更好、另一位认为乙更好的候选对所占比例最高。并列不算矛盾。裁定是一份独立的标注；原有标注保持不变。
adjudication-figures = 在 { $tasks } 个有至少两份排序的任务中，{ $conflicts } 个存在矛盾的候选对，其中 { $decided } 个已裁定。
adjudication-state-undecided = 待裁定
adjudication-state-decided = 已裁定
adjudication-state-all = 全部
adjudication-any-kind = 所有类型
adjudication-none = 没有符合条件且存在矛盾的任务。
adjudication-share = 矛盾比例
adjudication-pairs = { $all } 对中 { $n } 对
adjudication-rankings = 排序数
adjudication-still-open = 仍在标注
adjudication-case = 在标注之间裁定
adjudication-task = 任务页面
adjudication-agreed = 各份排序没有任何矛盾的候选对。
adjudication-contradict = 存在矛盾：
adjudication-conflict = 候选 { $first } 优于 { $second }：{ $nfirst } 人；相反：{ $nsecond } 人{ $ties ->
    [0] {""}
   *[other] ；并列：{ $ties } 人
  }
adjudication-decide = 裁定
adjudication-decide-help = 请按您的判断为候选排序。您的排序会作为独立的标注保存在其他标注旁边；除非另行指定，快照会以它取代原有标注。
adjudication-more = 评分与问题
adjudication-strength = 好多少（1 略好，4 好得多）
adjudication-note = 理由
adjudication-record = 记录裁定
adjudication-decide-again = 记录裁定的新版本
adjudication-from-label = 这是其中一份标注的内容。记录之前，请改成您自己的判断。
adjudication-simulated = 这里也有模拟标注员的排序。模拟标注员是有意出错的程序；其标注均有标明。
adjudication-recorded = 您的裁定已记录：它是一份独立的标注，与标注员的标注并列。
adjudication-recorded-show = 查看或重新裁定
